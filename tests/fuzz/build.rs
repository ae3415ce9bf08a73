//! Turns the environment variable into `cfg(canary)`: only the harness is built anew, not what it tests.

fn main() {
    println!("cargo:rerun-if-env-changed=RINGWAY_CANARY");
    if std::env::var_os("RINGWAY_CANARY").is_some() {
        println!("cargo:rustc-cfg=canary");
    }
}
