//! What the parser accepts and refuses.

use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
}

#[test]
fn the_commands_are_declared_without_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn wrong_flags_and_commands_are_exit_2() {
    for line in [
        "ringway",
        "ringway no-such",
        "ringway serve --no-such-flag",
        "ringway serve extra",
        "ringway check-config -o xml",
        "ringway topic",
        "ringway topic create",
        "ringway topic create t --partitions 0",
        "ringway topic set t",
        "ringway topic set t novalue",
        "ringway topic create t --config novalue",
        "ringway topic list --timeout 5",
        "ringway produce",
        "ringway consume",
        "ringway consume t --from yesterday",
        "ringway consume t -n many",
        "ringway consume t -o table",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(crate::refusal::USAGE), "{line}");
    }
    let version = parse("ringway --version").expect_err("version ends the parse");
    assert_eq!(version.exit_code(), 0);
}

#[test]
fn every_flag_of_serve_sets_its_key() {
    let line = "ringway serve --data-dir d --shards 1 --cpus 0 --kafka 127.0.0.1:1 --kafka-shards \
                127.0.0.1:2 --native 127.0.0.1:3 --http 127.0.0.1:4 --advertised h --allow-anonymous";
    let Ok(Command::CheckConfig(_)) = parse(&line.replace("serve", "check-config")) else {
        panic!("check-config takes the flags of serve");
    };
    let cli = Cli::try_parse_from(line.split_whitespace()).expect("parses");
    let Command::Serve(args) = cli.command else { panic!("serve") };
    let config = args.settings().load().expect("valid");
    let set: Vec<&str> =
        config.rows.iter().filter(|row| row.origin.starts_with("--")).map(|row| row.key).collect();
    assert_eq!(
        set,
        [
            "node.data_dir",
            "shards.count",
            "shards.cpus",
            "kafka.bind",
            "kafka.shard_bind",
            "kafka.advertised",
            "kafka.allow_anonymous",
            "native.bind",
            "http.bind"
        ]
    );
}

#[test]
fn a_bad_value_is_a_configuration_error_and_names_its_flag() {
    let Ok(Command::Serve(args)) = parse("ringway serve --shards many") else { panic!("parses") };
    let refusal = args.settings().load().expect_err("refused");
    assert_eq!(refusal.code, crate::refusal::CONFIGURATION);
    assert!(refusal.text.contains("--shards") && refusal.text.contains("many"), "{refusal:?}");
}

#[test]
fn the_lines_of_the_manual_are_accepted() {
    for line in [
        "ringway topic create events --partitions 4 --config retention.ms=86400000",
        "ringway topic set events on_quarantine=skip retention.ms=1 --unset segment.ms",
        "ringway topic set events --unset on_quarantine",
        "ringway topic list -o json --server h:1 --timeout 2s",
        "ringway topic --server h:1 describe events -o json",
        "ringway produce events --key-separator :",
        "ringway produce events file.txt",
        "ringway produce events -",
        "ringway consume events --from beginning --no-follow --key",
        "ringway consume events --from -1h -n 5 -p 0,3 --headers -o json",
        "ringway consume events --from @2026-01-31T12:00:00Z",
        "ringway consume events --from offset:12",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("refused"));
    }
}

#[test]
fn a_command_without_a_broker_is_exit_69() {
    let Ok(command) = parse("ringway topic list --server 127.0.0.1:1 --timeout 2s") else {
        panic!("parses")
    };
    let refusal = run(command).expect_err("nobody listens on port 1");
    assert_eq!(refusal.code, crate::refusal::UNREACHABLE);
    assert!(refusal.text.contains("127.0.0.1:1") && !refusal.text.contains('\n'), "{refusal:?}");
}
