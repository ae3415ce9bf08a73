//! A server that lies must be caught: a small Redis that loses, repeats, swaps or damages what it stores.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What happens to every hundredth record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lost,
    Repeated,
    Swapped,
    Damaged,
}

const EVERY: usize = 100;

type Stream = Arc<Mutex<Vec<Vec<u8>>>>;

/// One command: an array of bulk strings.
fn command(from: &mut impl BufRead) -> Result<Option<Vec<Vec<u8>>>> {
    let Some(count) = number(from)? else { return Ok(None) };
    let mut parts = Vec::new();
    for _ in 0..count {
        let length = number(from)?.ok_or_else(|| Error::other("cut command"))?;
        let mut part = vec![0; length + 2];
        from.read_exact(&mut part)?;
        part.truncate(length);
        parts.push(part);
    }
    Ok(Some(parts))
}

fn number(from: &mut impl BufRead) -> Result<Option<usize>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    line.get(1..)
        .and_then(|n| n.trim_end().parse().ok())
        .map(Some)
        .ok_or_else(|| Error::other(line))
}

fn add(stream: &Stream, value: Vec<u8>, fault: Fault, seen: &mut usize) -> usize {
    *seen += 1;
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let hit = seen.is_multiple_of(EVERY);
    match fault {
        Fault::Lost if hit => {}
        Fault::Repeated if hit => {
            stream.push(value.clone());
            stream.push(value);
        }
        Fault::Swapped if hit && !stream.is_empty() => {
            let before = stream.len() - 1;
            stream.insert(before, value);
        }
        Fault::Damaged if hit => {
            let mut value = value;
            value[40] ^= 1;
            stream.push(value);
        }
        _ => stream.push(value),
    }
    *seen
}

/// Serves one connection; XREAD answers at once, with everything behind the id it names.
fn serve(connection: TcpStream, stream: Stream, fault: Fault) -> Result<()> {
    let mut out = connection.try_clone()?;
    let mut from = BufReader::new(connection);
    let mut seen = 0;
    while let Some(parts) = command(&mut from)? {
        let mut reply = Vec::new();
        match parts.first().map(Vec::as_slice) {
            Some(b"XREVRANGE") => reply.extend_from_slice(b"*0\r\n"),
            Some(b"XADD") => {
                let value = parts.into_iter().nth(4).unwrap_or_default();
                let id = format!("{}-0", add(&stream, value, fault, &mut seen));
                write!(reply, "${}\r\n{id}\r\n", id.len())?;
            }
            _ => {
                let (key, id) = (&parts[parts.len() - 2], &parts[parts.len() - 1]);
                let id = String::from_utf8_lossy(id);
                let after: usize = id.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                // The newest stays back, so that a swap happens before anybody has read it.
                let upto = stream.len().saturating_sub(usize::from(fault == Fault::Swapped));
                if upto <= after {
                    drop(stream);
                    thread::yield_now();
                    out.write_all(b"*-1\r\n")?;
                    continue;
                }
                write!(reply, "*1\r\n*2\r\n${}\r\n", key.len())?;
                reply.extend_from_slice(key);
                write!(reply, "\r\n*{}\r\n", upto - after)?;
                for (at, value) in stream.iter().enumerate().take(upto).skip(after) {
                    let id = format!("{}-0", at + 1);
                    write!(reply, "*2\r\n${}\r\n{id}\r\n*2\r\n$1\r\nv\r\n", id.len())?;
                    write!(reply, "${}\r\n", value.len())?;
                    reply.extend_from_slice(value);
                    reply.extend_from_slice(b"\r\n");
                }
            }
        }
        out.write_all(&reply)?;
    }
    Ok(())
}

fn server(fault: Fault) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let stream = Stream::default();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let stream = Arc::clone(&stream);
            thread::spawn(move || serve(connection, stream, fault));
        }
    });
    Ok(port)
}

/// Runs the generator against a server with `fault`; exit code and report.
fn run(fault: Fault) -> Result<(Option<i32>, serde_json::Value)> {
    let target = format!("redis://127.0.0.1:{}", server(fault)?);
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadgen"))
        .args(["run", "--target", &target, "--mode", "e2e", "--rate", "2000", "--size", "64"])
        .args(["--warmup", "0", "--duration", "1", "--drain", "2", "--json", "-"])
        .output()?;
    let report = serde_json::from_slice(&output.stdout)
        .map_err(|_| Error::other(String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), report))
}

#[test]
fn an_honest_server_is_clean() {
    let (code, report) = run(Fault::None).unwrap();
    assert_eq!((code, &report["clean"]), (Some(0), &serde_json::json!(true)), "{report}");
    assert_eq!(report["acked"], report["received"], "{report}");
    assert!(report["acked"].as_u64() >= Some(1900), "{report}");
    assert!(report["p50_us"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn every_kind_of_lie_is_caught_and_counted() {
    for (fault, key) in [
        (Fault::Lost, "lost"),
        (Fault::Repeated, "duplicated"),
        (Fault::Swapped, "reordered"),
        (Fault::Damaged, "corrupt"),
    ] {
        let (code, report) = run(fault).unwrap();
        let acked = report["acked"].as_u64().unwrap();
        assert_eq!(code, Some(1), "{fault:?}: {report}");
        // A swap of the very last record stays unseen: the server keeps that one back.
        let expected = acked / EVERY as u64;
        let least = expected - u64::from(fault == Fault::Swapped);
        let counted = report[key].as_u64().unwrap();
        assert!((least..=expected).contains(&counted), "{fault:?}: {report}");
    }
}

#[test]
fn an_absent_server_and_wrong_arguments_have_their_exit_codes() {
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ringway-loadgen")).arg("run").args(args).output().unwrap()
    };
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for dialect in ["native", "kafka", "redis"] {
        let target = format!("{dialect}://127.0.0.1:{port}");
        assert_eq!(run(&["--target", &target]).status.code(), Some(69), "{dialect}");
    }
    assert_eq!(run(&["--target", "redis://127.0.0.1:1", "--size", "3"]).status.code(), Some(2));
    assert_eq!(run(&["--target", "nowhere"]).status.code(), Some(2));
}
