//! Flags that stand for keys of the configuration.

use crate::config::Config;
use crate::config::source::Sources;
use crate::refusal::Refusal;
use clap::Args;
use std::path::PathBuf;

/// Settings of a broker; whatever is not given comes from RINGWAY__SECTION__KEY, the file, or the default.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of everything durable [default: ./ringway-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Number of shards, one core each [default: allowed cores minus one, at least 1].
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<String>,
    /// Cores to take, such as `1-15` or `0,2-3`.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpus: Option<String>,
    /// Kafka bootstrap address [default: 127.0.0.1:9092].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka: Option<String>,
    /// First shard's own Kafka address, the others follow [default: bootstrap port + 10000].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) kafka_shards: Option<String>,
    /// Native address [default: 127.0.0.1:7420].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) native: Option<String>,
    /// HTTP address for /livez, /readyz and /metrics [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<String>,
    /// Host that clients are told [default: the address bound].
    #[arg(long, value_name = "HOST")]
    pub(crate) advertised: Option<String>,
    /// Lets others than this host connect although nobody authenticates.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,
}

impl Settings {
    /// Reads and checks the whole configuration.
    pub(crate) fn load(&self) -> Result<Config, Refusal> {
        let sources = self.sources(variables());
        Config::load(&sources)
            .map_err(|problems| Refusal::configuration(problems.join("\nringway: ")))
    }

    fn sources(&self, variables: Vec<(String, String)>) -> Sources {
        let given = [
            ("node.data_dir", "--data-dir", &self.data_dir),
            ("shards.count", "--shards", &self.shards),
            ("shards.cpus", "--cpus", &self.cpus),
            ("kafka.bind", "--kafka", &self.kafka),
            ("kafka.shard_bind", "--kafka-shards", &self.kafka_shards),
            ("native.bind", "--native", &self.native),
            ("http.bind", "--http", &self.http),
            ("kafka.advertised", "--advertised", &self.advertised),
        ];
        let mut flags: Vec<(&'static str, String, &'static str)> = given
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, value.clone()?, flag)))
            .collect();
        if self.allow_anonymous {
            flags.push(("kafka.allow_anonymous", "true".to_owned(), "--allow-anonymous"));
        }
        Sources { file: self.config.clone(), variables, flags }
    }
}

/// All variables that are text; others cannot name a key.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
