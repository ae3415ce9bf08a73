//! House rules as failing tests: which floor may know which, what may stand in which file.
//! Owner: nobody; `cargo test` runs it.
//! Invariant: a rule stands here or in clippy.toml, never in prose alone.
//! Not here: sizes; `tests/run house` reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crate folder, crates of ours it may use, foreign crates only it (and others listed) may use.
const FLOORS: &[(&str, &[&str])] = &[
    ("shards/wire", &[]),
    ("shards/log", &["wire"]),
    ("shards/partition", &["wire", "log"]),
    ("shards/doors", &["wire", "log", "partition"]),
    ("shards/runtime", &["wire", "log", "partition", "doors"]),
    ("shards/sim", &["wire", "log", "partition", "doors", "client"]),
    ("clients/rust", &["wire"]),
    ("loadgen", &["wire", "client"]),
    ("benches", &["wire", "log", "partition", "doors", "client"]),
    ("tuning", &[]),
];

/// Foreign crates with one home.
const HOMES: &[(&str, &[&str])] = &[
    ("io-uring", &["shards/runtime"]),
    ("tokio", &["."]),
    ("axum", &["."]),
    ("redb", &["."]),
    ("glommio", &["shards/runtime", "loadgen", "."]),
    ("rand", &[]),
];

const SANS_IO: &[&str] = &["wire", "log", "partition", "doors"];
const MODULES_BANNED: &[&str] = &["common", "utils", "types", "helpers", "manager", "core", "misc"];
const UNSAFE_FILES: &[&str] = &[
    "shards/runtime/src/block_pool.rs",
    "shards/runtime/src/disk.rs",
    "shards/runtime/src/net.rs",
    "shards/runtime/src/ring.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tracked() -> Vec<String> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    let names = String::from_utf8(output.stdout).expect("names are UTF-8");
    names.lines().filter(|name| root().join(name).is_file()).map(str::to_owned).collect()
}

fn rust_files() -> Vec<String> {
    tracked().into_iter().filter(|name| name.ends_with(".rs")).collect()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_start()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "\n  {}", found.join("\n  "));
}

fn manifest(folder: &str) -> toml::Table {
    read(&format!("{folder}/Cargo.toml"))
        .parse()
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
}

fn dependencies(folder: &str) -> Vec<(String, toml::Value)> {
    let manifest = manifest(folder);
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let rows = tables.iter().filter_map(|table| manifest.get(*table)?.as_table().cloned());
    rows.flatten().collect()
}

#[test]
fn floors() {
    let mut found = Vec::new();
    for (folder, below) in FLOORS {
        if !root().join(folder).join("Cargo.toml").exists() {
            continue;
        }
        for (name, _) in dependencies(folder) {
            let ours = name.strip_prefix("ringway-");
            if ours.is_some_and(|name| !below.contains(&name)) {
                found.push(format!("{folder} must not depend on {name}"));
            }
        }
    }
    for (name, homes) in HOMES {
        for folder in FLOORS.iter().map(|(folder, _)| *folder).chain(["."]) {
            let there = root().join(folder).join("Cargo.toml").exists();
            if there
                && !homes.contains(&folder)
                && dependencies(folder).iter().any(|(n, _)| n == name)
            {
                found.push(format!("{folder} must not depend on {name}"));
            }
        }
    }
    none(found);
}

#[test]
fn tokio_stays_on_the_control_plane() {
    let allowed = |name: &str| {
        name.starts_with("src/control")
            || name == "src/boot.rs"
            || name.starts_with("src/boot/")
            || name == "src/main.rs"
            || name == "src/tidy.rs"
    };
    let mut found = Vec::new();
    for name in rust_files().iter().filter(|name| name.starts_with("src/") && !allowed(name)) {
        for (line, text) in code_lines(&read(name)) {
            if text.contains("tokio::") {
                found.push(format!("{name}:{line} names tokio"));
            }
        }
    }
    none(found);
}

#[test]
fn one_code() {
    let mut found = Vec::new();
    for name in sans_io_files() {
        for (line, text) in code_lines(&read(&name)) {
            if text.contains("cfg(feature") || text.contains("cfg(sim") {
                found.push(format!("{name}:{line} the simulated code is the shipped code"));
            }
        }
    }
    none(found);
}

fn sans_io_files() -> Vec<String> {
    let below = |name: &str| SANS_IO.iter().any(|c| name.starts_with(&format!("shards/{c}/src/")));
    rust_files().into_iter().filter(|name| below(name)).collect()
}

#[test]
fn shape() {
    let mut found = Vec::new();
    let files = rust_files().into_iter().filter(|name| name.starts_with("shards/sim/src/"));
    for name in sans_io_files().into_iter().chain(files) {
        for (line, text) in code_lines(&read(&name)) {
            if text.contains("async fn") || text.contains(".await") || text.contains("async move") {
                found.push(format!("{name}:{line} async below runtime"));
            }
        }
    }
    none(found);
}

#[test]
fn unsafe_files() {
    let mut with = BTreeSet::new();
    for name in rust_files().iter().filter(|name| !name.starts_with("tests/")) {
        let text = read(name);
        if code_lines(&text)
            .any(|(_, line)| line.contains("unsafe {") || line.contains("unsafe impl"))
            && name != "src/tidy.rs"
        {
            with.insert(name.clone());
        }
    }
    let extra: Vec<String> =
        with.into_iter().filter(|name| !UNSAFE_FILES.contains(&name.as_str())).collect();
    none(extra);
}

#[test]
fn headers() {
    let mut found = Vec::new();
    for name in rust_files() {
        let text = read(&name);
        // An `expect` of unsafe code stands above the header.
        let headed = text.lines().take(12).any(|line| line.starts_with("//!"));
        if !name.starts_with("tests/") && !headed {
            found.push(format!("{name} has no //! header"));
        }
        let marked = name.starts_with("shards/") && name.contains("/src/");
        let leaf = !name.ends_with("lib.rs")
            && !name.ends_with("main.rs")
            && !name.ends_with("tests.rs")
            && !name.contains("/tests/");
        for mark in ["//! Owner:", "//! Invariant:", "//! Not here:"] {
            if marked && leaf && !text.contains(mark) {
                found.push(format!("{name} lacks `{mark}`"));
            }
        }
    }
    none(found);
}

#[test]
fn banned() {
    let mut found = Vec::new();
    let words = ["TODO", "FIXME", "XXX", "HACK"];
    for name in tracked() {
        let path = Path::new(&name);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if name.ends_with(".rs") && MODULES_BANNED.contains(&stem) {
            found.push(format!("{name}: banned module name"));
        }
        let Ok(text) = fs::read_to_string(root().join(&name)) else { continue };
        if name == "src/tidy.rs" || name == "LICENSE" || name.ends_with(".lock") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let word = |word: &str| line.split(|c: char| !c.is_alphanumeric()).any(|w| w == word);
            if words.iter().any(|w| word(w)) {
                found.push(format!("{name}:{} unfinished mark", index + 1));
            }
            if line.contains("/home/") || line.contains("/Users/") {
                found.push(format!("{name}:{} a home directory", index + 1));
            }
            if name.ends_with(".rs") && line.ends_with(' ') {
                found.push(format!("{name}:{} trailing blank", index + 1));
            }
        }
    }
    none(found);
}

#[test]
fn fences_agree() {
    let mut found = Vec::new();
    let workspace = manifest(".");
    let list = |key: &str| -> BTreeSet<String> {
        let rows = workspace["workspace"].get(key).and_then(|rows| rows.as_array().cloned());
        rows.unwrap_or_default().iter().filter_map(|row| row.as_str().map(str::to_owned)).collect()
    };
    let members = list("members");
    let mut defaults = list("default-members");
    if !defaults.remove(".") || defaults != members {
        found.push("default-members must be `.` and all members".to_owned());
    }
    if workspace["package"].get("default-run").and_then(|run| run.as_str()) != Some("ringway") {
        found.push("default-run must be ringway".to_owned());
    }
    for member in &members {
        let manifest = manifest(member);
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(toml::Value::as_bool) != Some(true) {
            found.push(format!("{member} lacks [lints] workspace = true"));
        }
        for (name, value) in dependencies(member) {
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                found.push(format!("{member} pins {name} itself"));
            }
        }
    }
    for folder in SANS_IO.iter().map(|c| format!("shards/{c}")).chain([".".to_owned()]) {
        let fence = root().join(&folder).join("clippy.toml");
        let text = fs::read_to_string(&fence).unwrap_or_default();
        if !text.contains("stack-size-threshold = 16384") {
            found.push(format!("{folder}/clippy.toml lacks the root's thresholds"));
        }
        if folder != "."
            && !(text.contains("std::time::Instant::now") && text.contains("std::sync::Mutex"))
        {
            found.push(format!("{folder}/clippy.toml lacks the clock and lock bans"));
        }
    }
    none(found);
}

#[test]
fn dead_files() {
    let mut found = Vec::new();
    let files = tracked();
    let docs: String =
        files.iter().filter(|name| name.ends_with(".md")).map(|name| read(name)).collect();
    for name in &files {
        let size = fs::metadata(root().join(name)).map(|meta| meta.len()).unwrap_or(0);
        if size > 256 * 1024 && !name.ends_with(".lock") {
            found.push(format!("{name} is {size} bytes"));
        }
        let file = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or_default();
        if name.starts_with("docs/")
            && name.ends_with(".md")
            && file != "README.md"
            && !docs.contains(file)
        {
            found.push(format!("{name} is linked from nowhere"));
        }
    }
    none(found);
}

/// Paths in back quotes that look like files of this repository must exist.
#[test]
fn docs_true() {
    let mut found = Vec::new();
    let files = tracked();
    let exists = |path: &str| {
        root().join(path).exists() || files.iter().any(|name| name.ends_with(&format!("/{path}")))
    };
    for name in files.iter().filter(|name| name.ends_with(".md") && !name.starts_with("tests/")) {
        for piece in read(name).split('`').skip(1).step_by(2) {
            let path = piece.split("::").next().unwrap_or_default();
            let looks =
                path.contains('/') && path.ends_with(".rs") && !path.contains([' ', '<', '{', '*']);
            if looks && !exists(path) {
                found.push(format!("{name} names `{piece}`, which does not exist"));
            }
        }
    }
    none(found);
}

/// Links between documents lead somewhere.
#[test]
fn docs_links() {
    let mut found = Vec::new();
    for name in tracked().iter().filter(|name| name.ends_with(".md")) {
        let folder = Path::new(name).parent().unwrap_or(Path::new(""));
        for piece in read(name).split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap_or_default();
            let here = !target.is_empty() && !target.contains(':') && !target.contains(' ');
            if here && !root().join(folder).join(target).exists() {
                found.push(format!("{name} links to {target}, which does not exist"));
            }
        }
    }
    none(found);
}

#[test]
fn kafka_table() {
    let text = read("docs/kafka.md");
    let rows: Vec<String> = ringway_wire::kafka::api::APIS
        .iter()
        .map(|api| format!("| {} | {} | {}–{} |", api.key, api.name, api.min, api.max))
        .collect();
    let shown = text.lines().filter(|line| line.starts_with("| ") && line.contains('–'));
    assert_eq!(shown.count(), rows.len(), "docs/kafka.md has a row per API");
    none(rows.into_iter().filter(|row| !text.contains(row.as_str())).collect());
}

#[test]
fn no_cycles() {
    let mut found = Vec::new();
    for (folder, _) in FLOORS {
        let prefix = format!("{folder}/src/");
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in rust_files().iter().filter(|name| name.starts_with(&prefix)) {
            let inner = name[prefix.len()..].trim_end_matches(".rs");
            let module = inner.split('/').next().unwrap_or_default().to_owned();
            if matches!(module.as_str(), "lib" | "main") || inner.ends_with("tests") {
                continue;
            }
            let shipped = read(name).split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            for (_, line) in code_lines(&shipped) {
                for part in line.split("crate::").skip(1) {
                    let target: String =
                        part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if target != module && !target.is_empty() {
                        uses.entry(module.clone()).or_default().insert(target);
                    }
                }
            }
        }
        for start in uses.keys() {
            if let Some(path) = cycle(&uses, start, &mut vec![start.clone()]) {
                found.push(format!("{folder}: {}", path.join(" → ")));
                break;
            }
        }
    }
    none(found);
}

fn cycle(
    uses: &BTreeMap<String, BTreeSet<String>>,
    start: &str,
    path: &mut Vec<String>,
) -> Option<Vec<String>> {
    let here = path.last().cloned().unwrap_or_default();
    for next in uses.get(&here).into_iter().flatten() {
        if next == start {
            path.push(next.clone());
            return Some(path.clone());
        }
        if !path.contains(next) {
            path.push(next.clone());
            if let Some(found) = cycle(uses, start, path) {
                return Some(found);
            }
            path.pop();
        }
    }
    None
}
