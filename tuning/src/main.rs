//! `ringway-tuning`: prints the host settings that matter to Ringway, changes nothing.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

fn main() {
    for check in ringway_tuning::checks() {
        let mark = if check.good { "ok  " } else { "look" };
        println!("{mark} {:28} {}\n     {}", check.name, check.found, check.advice);
    }
}
