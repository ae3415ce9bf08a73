//! Copies of the product's files with one bug planted in each: a model that misses it proves nothing.

use std::path::Path;
use std::{env, fs};

/// File, name of the copy, what is replaced (it must occur exactly once) and by what.
const PLANTED: [(&str, &str, &str, &str); 4] = [
    (
        "doorbell.rs",
        "pusher_without_fence",
        "fence(Ordering::SeqCst);\n        if !self",
        "if !self",
    ),
    ("doorbell.rs", "sleeper_without_fence", "fence(Ordering::SeqCst);\n    }", "}"),
    // Pushed once there was room, and nobody wakes the receiver.
    ("mesh.rs", "retry_without_bell", "self.waiting_count -= 1;\n                self.rung[index] = true;", "self.waiting_count -= 1;"),
    // A message overtakes those that wait for room.
    ("mesh.rs", "overtaking", "if self.waiting[index].is_empty() {", "if true {"),
];

fn main() {
    let out = env::var("OUT_DIR").expect("cargo says where");
    for (file, name, from, to) in PLANTED {
        let path = Path::new("../../shards/runtime/src").join(file);
        println!("cargo:rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).expect("the product's file");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        assert_eq!(text.matches(from).count(), 1, "{file} has changed: plant {name} anew");
        // A file that is included may not begin with its own documentation.
        let code = text.replace(from, to);
        let code: Vec<&str> = code.lines().filter(|line| !line.starts_with("//!")).collect();
        fs::write(Path::new(&out).join(format!("{name}.rs")), code.join("\n")).expect("written");
    }
}
