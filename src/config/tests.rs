//! Every kind of key: default, override by each layer, bad value; contradictions; unknown names.

use super::source::Sources;
use super::*;
use std::io::Write as _;
use std::path::PathBuf;

fn sources(flags: &[(&'static str, &str)]) -> Sources {
    let flags = flags.iter().map(|(key, text)| (*key, (*text).to_owned(), "--flag")).collect();
    Sources { flags, ..Sources::default() }
}

fn with_variables(variables: &[(&str, &str)]) -> Sources {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Sources { variables: variables.iter().map(own).collect(), ..Sources::default() }
}

fn with_file(text: &str) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    (file, sources)
}

fn problems(sources: &Sources) -> Vec<String> {
    Config::load(sources).expect_err("must be refused")
}

#[test]
fn defaults_are_those_of_the_manual() {
    let config = Config::load(&Sources::default()).expect("valid");
    assert_eq!(config.kafka.bind, loopback(9092));
    assert_eq!(config.kafka.shard_bind, loopback(19092));
    assert_eq!(config.native_bind, loopback(7420));
    assert_eq!(config.http_bind, vec![loopback(8080)]);
    assert_eq!(config.node.data_dir, PathBuf::from("./ringway-data"));
    assert_eq!(config.shards.count, None);
    assert_eq!(config.broker.partitions, 1);
    assert!(config.broker.auto_create);
    assert!(config.broker.topic_defaults.is_empty());
    assert_eq!(config.broker.described["socket.request.max.bytes"], "104857600");
    assert_eq!(config.limits.message_bytes_max, 50 << 20);
}

#[test]
fn every_key_takes_its_own_default_from_a_variable_and_refuses_nonsense() {
    let rows = Config::load(&Sources::default()).expect("valid").rows;
    assert!(rows.len() > 30);
    for row in &rows {
        let name = keys::variable_of(row.key);
        let config = Config::load(&with_variables(&[(&name, &row.default)]));
        let config = config.unwrap_or_else(|problems| panic!("{}: {problems:?}", row.key));
        let read = config.rows.iter().find(|read| read.key == row.key).expect("row");
        assert_eq!((read.value.as_str(), read.origin.as_str()), (row.default.as_str(), &*name));
        if row.allowed.contains("path") || row.allowed.contains("bytes") && row.default.is_empty() {
            continue;
        }
        let found = problems(&with_variables(&[(&name, "a b/c")]));
        assert_eq!(found.len(), 1, "{}: {found:?}", row.key);
        for part in [row.key, "a b/c", &name, &row.allowed] {
            assert!(found[0].contains(part), "{part} is missing in {}", found[0]);
        }
    }
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let (_file, mut sources) = with_file("[shards]\ncount = 2\n[native]\nbind = \"127.0.0.1:1\"\n");
    let config = Config::load(&sources).expect("valid");
    assert_eq!((config.shards.count, config.native_bind.port()), (Some(2), 1));
    sources.variables.push(("RINGWAY__SHARDS__COUNT".to_owned(), "3".to_owned()));
    assert_eq!(Config::load(&sources).expect("valid").shards.count, Some(3));
    sources.flags.push(("shards.count", "4".to_owned(), "--shards"));
    let config = Config::load(&sources).expect("valid");
    assert_eq!((config.shards.count, config.native_bind.port()), (Some(4), 1));
    let row = config.rows.iter().find(|row| row.key == "shards.count").expect("row");
    assert_eq!((row.value.as_str(), row.origin.as_str()), ("4", "--shards"));
}

#[test]
fn kafka_names_may_stand_quoted_or_bare() {
    for text in [
        "[kafka.broker]\n\"num.partitions\" = 7\n\"log.retention.bytes\" = 100\n",
        "[kafka.broker]\nnum.partitions = 7\nlog.retention.bytes = 100\n",
    ] {
        let (_file, sources) = with_file(text);
        let config = Config::load(&sources).expect("valid");
        assert_eq!(config.broker.partitions, 7);
        assert_eq!(config.broker.topic_defaults["retention.bytes"], "100");
        assert_eq!(config.broker.described["num.partitions"], "7");
    }
}

#[test]
fn all_problems_come_at_once_with_their_lines() {
    let (file, sources) =
        with_file("[shards]\ncount = 0\n[kafka]\nbnid = \"x\"\n[log]\ndirect_io = \"maybe\"\n");
    let found = problems(&sources);
    let name = file.path().display().to_string();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with(&format!("shards.count = \"0\" ({name}:2)")), "{}", found[0]);
    assert!(found[1].contains("direct_io") && found[1].contains(":6)"), "{}", found[1]);
    assert!(found[1].contains("`prefer`, `require`, `off`"), "{}", found[1]);
    assert!(found[2].contains("did you mean kafka.bind?"), "{}", found[2]);
}

#[test]
fn unknown_variables_are_errors_and_foreign_ones_are_not() {
    let found = problems(&with_variables(&[("RINGWAY__NATIV__BIND", "127.0.0.1:1")]));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("did you mean RINGWAY__NATIVE__BIND?"), "{}", found[0]);
    Config::load(&with_variables(&[("RINGWAY_SERVER", "x"), ("HOME", "/")])).expect("valid");
}

#[test]
fn broken_toml_names_file_and_line() {
    let (file, sources) = with_file("[shards]\ncount = = 3\n");
    let found = problems(&sources);
    assert!(found[0].starts_with(&format!("{}:2: ", file.path().display())), "{found:?}");
    let missing = Sources { file: Some("no/such/file.toml".into()), ..Sources::default() };
    assert!(problems(&missing)[0].contains("cannot read no/such/file.toml"));
}

#[test]
fn more_than_this_host_needs_allow_anonymous() {
    for key in ["kafka.bind", "kafka.shard_bind", "native.bind", "http.bind"] {
        let open = [(key, "192.0.2.1:1234")];
        let found = problems(&sources(&open));
        assert!(found.iter().any(|line| line.starts_with(key)), "{found:?}");
        assert!(found[0].contains("--allow-anonymous"), "{found:?}");
        let allowed = [open[0], ("kafka.allow_anonymous", "true")];
        Config::load(&sources(&allowed)).expect("valid");
    }
}

#[test]
fn contradictions_are_refused() {
    let cases: [&[(&'static str, &str)]; 7] = [
        &[("kafka.bind", "0.0.0.0:9092"), ("kafka.allow_anonymous", "true")],
        &[("kafka.shard_bind", "127.0.0.1:65535"), ("shards.count", "2")],
        &[("log.memory_bytes_max", "24MiB"), ("shards.count", "2")],
        &[("native.bind", "127.0.0.1:9092")],
        &[("http.bind", "127.0.0.1:7420")],
        &[("limits.drain_timeout_ms", "40000")],
        &[("kafka.broker.group.min.session.timeout.ms", "86400000")],
    ];
    for case in cases {
        assert_eq!(problems(&sources(case)).len(), 1, "{case:?}");
    }
}

#[test]
fn port_zero_may_repeat_and_moves_the_shards_to_free_ports() {
    let free = [
        ("kafka.bind", "127.0.0.1:0"),
        ("native.bind", "127.0.0.1:0"),
        ("http.bind", "127.0.0.1:0"),
    ];
    let config = Config::load(&sources(&free)).expect("valid");
    assert_eq!(config.kafka.shard_bind.port(), 0);
}

#[test]
fn memory_default_is_bounded_by_host_and_shards() {
    assert_eq!(memory::memory_bytes_default(2, Some(64 << 30)), 2 << 30);
    assert_eq!(memory::memory_bytes_default(8, Some(16 << 30)), 4 << 30);
    assert_eq!(memory::memory_bytes_default(1, None), 1 << 30);
    assert_eq!(memory::memory_bytes_default(4, Some(1 << 20)), 4 * SHARD_BYTES_MIN);
}

#[test]
fn an_advertised_port_goes_with_one_broker_per_node_alone() {
    let node = [("kafka.advertised", "proxy:5555"), ("kafka.advertise", "node")];
    let config = Config::load(&sources(&node)).expect("valid");
    assert_eq!(config.kafka.advertised_host(), Some("proxy"));
    assert_eq!(config.kafka.advertised_port(), Some(5555));
    let found = problems(&sources(&node[..1]));
    assert!(found[0].contains("kafka.advertised") && found[0].contains("proxy:5555"), "{found:?}");
    let plain = Config::load(&sources(&[("kafka.advertised", "::1")])).expect("valid");
    assert_eq!((plain.kafka.advertised_host(), plain.kafka.advertised_port()), (Some("::1"), None));
}
