//! `ringway topic create|list|describe|set|delete`

use super::Output;
use super::server::{Connection, Server, print, unexpected};
use crate::refusal::{FAILED, Refusal};
use clap::Subcommand;
use ringway_client::native::{
    DescribeTopicReply, NativeReply, QuarantineDescription, TopicMetadata,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Arguments of `topic`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic.
    Create {
        /// Name: a-z A-Z 0-9 . _ -
        name: String,
        /// Number of partitions [default: the broker's num.partitions].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// A Kafka topic setting, such as retention.ms=86400000; may be repeated.
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
        configs: Vec<(String, String)>,
    },
    /// List all topics.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show a topic's settings, partitions and segments.
    Describe {
        /// Name.
        name: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Change settings of a topic; they hold at once, for consumers and producers that are there, too.
    Set {
        /// Name.
        name: String,
        /// Kafka topic settings, such as retention.ms=86400000 or on_quarantine=skip.
        #[arg(value_name = "KEY=VALUE", value_parser = parse_setting, required_unless_present = "unset")]
        settings: Vec<(String, String)>,
        /// A setting that goes back to its default; may be repeated.
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete a topic and everything in it.
    Delete {
        /// Name.
        name: String,
    },
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is needed")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<ExitCode, Refusal> {
    let mut connection = args.server.connect()?;
    match args.action {
        Action::Create { name, partitions, configs } => {
            create(&mut connection, &name, partitions.unwrap_or(-1), configs)?;
        }
        Action::List { output } => list(&mut connection, output)?,
        Action::Describe { name, output } => describe(&mut connection, &name, output)?,
        Action::Set { name, settings, unset } => set(&mut connection, &name, settings, unset)?,
        Action::Delete { name } => {
            let reply = connection.call(|session, out| session.delete_topic(out, &name))?;
            let NativeReply::TopicDeleted { .. } = reply else { return Err(unexpected(&reply)) };
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(
    connection: &mut Connection,
    name: &str,
    partitions: i32,
    configs: Vec<(String, String)>,
) -> Result<(), Refusal> {
    let configs: BTreeMap<String, String> = configs.into_iter().collect();
    let reply = connection
        .call(|session, out| session.create_topic(out, name, partitions, configs.clone()))?;
    let NativeReply::TopicCreated { reply, .. } = reply else { return Err(unexpected(&reply)) };
    let json = json!({"name": name, "topic_id": reply.topic_id, "partitions": reply.partitions});
    let table = || format!("created {name}, {} partitions", reply.partitions);
    print(Output::Table, table, &json);
    Ok(())
}

fn set(
    connection: &mut Connection,
    name: &str,
    settings: Vec<(String, String)>,
    unset: Vec<String>,
) -> Result<(), Refusal> {
    let given = settings.into_iter().map(|(key, value)| (key, Some(value)));
    let configs: BTreeMap<String, Option<String>> =
        given.chain(unset.into_iter().map(|key| (key, None))).collect();
    let reply = connection.call(|session, out| session.alter_topic(out, name, configs.clone()))?;
    let NativeReply::TopicAltered { .. } = reply else { return Err(unexpected(&reply)) };
    let rows = configs.iter().map(|(key, value)| match value {
        Some(value) => format!("{name}: {key} = {value}\n"),
        None => format!("{name}: {key} is its default again\n"),
    });
    print(Output::Table, || rows.collect(), &json!({}));
    Ok(())
}

fn list(connection: &mut Connection, output: Output) -> Result<(), Refusal> {
    let reply = connection.call(|session, out| session.metadata(out, None))?;
    let NativeReply::Metadata { reply, .. } = reply else { return Err(unexpected(&reply)) };
    let rows = reply.topics.iter().map(|topic| {
        json!({
            "name": topic.name,
            "partitions": topic.partitions.len(),
            "topic_id": topic.topic_id,
            "uuid": topic.uuid,
        })
    });
    print(output, || list_table(&reply.topics), &rows.collect());
    Ok(())
}

fn list_table(topics: &[TopicMetadata]) -> String {
    let width = topics.iter().map(|topic| topic.name.len()).max().unwrap_or(0);
    let width = width.max("TOPIC".len());
    let mut text = format!("{:<width$}  {:>10}  {:>8}\n", "TOPIC", "PARTITIONS", "ID");
    for topic in topics {
        let (name, partitions, id) = (&topic.name, topic.partitions.len(), topic.topic_id);
        // Writing to a String cannot fail.
        writeln!(text, "{name:<width$}  {partitions:>10}  {id:>8}").unwrap_or_default();
    }
    text
}

fn describe(connection: &mut Connection, name: &str, output: Output) -> Result<(), Refusal> {
    let reply = connection.call(|session, out| session.describe_topic(out, name))?;
    let NativeReply::TopicDescribed { reply, .. } = reply else { return Err(unexpected(&reply)) };
    let json = serde_json::to_value(&reply)
        .map_err(|error| Refusal { code: FAILED, text: error.to_string() })?;
    print(output, || describe_table(&reply), &json);
    Ok(())
}

fn describe_table(topic: &DescribeTopicReply) -> String {
    let mut text = format!("topic {}, id {}, uuid {}\n", topic.name, topic.topic_id, topic.uuid);
    for (key, value) in &topic.configs {
        writeln!(text, "  {key} = {value}").unwrap_or_default();
    }
    let heads =
        ["PARTITION", "SHARD", "LOG START", "HIGH WATERMARK", "LOG END", "SEGMENTS", "BYTES"];
    let mut line = |cells: [String; 7]| {
        let [partition, shard, start, high, end, segments, bytes] = cells;
        writeln!(
            text,
            "{partition:>9}  {shard:>5}  {start:>12}  {high:>14}  {end:>12}  {segments:>8}  {bytes:>14}"
        )
        .unwrap_or_default();
    };
    line(heads.map(str::to_owned));
    for row in &topic.partitions {
        let bytes: u64 = row.segments.iter().map(|segment| segment.frame_bytes).sum();
        line([
            row.partition.to_string(),
            row.shard.to_string(),
            row.log_start.to_string(),
            row.high_watermark.to_string(),
            row.log_end.to_string(),
            row.segments.len().to_string(),
            bytes.to_string(),
        ]);
    }
    for row in &topic.partitions {
        for range in &row.quarantined {
            let QuarantineDescription { from, to, segment, position, reason, found_by, .. } = range;
            let lost = to - from;
            writeln!(
                text,
                "partition {}: offsets {from}..{to} ({lost}) are quarantined: {reason}, found by {found_by}, \
                 {segment:020}.seg from byte {position}",
                row.partition
            )
            .unwrap_or_default();
        }
    }
    text
}
