//! What is written about settings and metrics is what there is. `WRITE_DOCUMENTS=1` writes the tables anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel_gateway::config::{Config, FIELDS, SECTIONS};
use evenkeel_gateway::run::Gateway;
use support::whole;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

async fn metrics(gateway: &Gateway) -> String {
    let mut stream = TcpStream::connect(gateway.started().operations[0]).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// A table a section, as in the file of defaults.
fn settings() -> String {
    let defaults = Config::default().to_toml();
    let mut out = String::new();
    for (section, doc) in SECTIONS {
        let _ = write!(
            out,
            "\n**{section}**: {}\n\n| setting | default | what |\n|---|---|---|\n",
            one_line(doc)
        );
        let body = defaults.split(&format!("[{section}]\n")).nth(1).unwrap();
        for field in FIELDS.iter().filter(|field| field.path.split('.').next() == Some(section)) {
            let name = field.path.split('.').nth(1).unwrap();
            let line = body.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap();
            let reloads = if field.reloads { " *Reloads.*" } else { "" };
            let _ = writeln!(out, "| `{}` | `{line}` | {}{reloads} |", field.path, one_line(field.doc));
        }
    }
    out
}

/// Every metric: name, type, help.
fn metrics_table(text: &str) -> String {
    let mut out = "\n| metric | type | what |\n|---|---|---|\n".to_owned();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
            let _ = writeln!(out, "| `{name}` | {kind} | {} |", one_line(help));
        }
    }
    out
}

/// Replaces what stands between the marks of `name`.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let begin = text.find(&format!("<!-- {name}:")).unwrap();
    let begin = begin + text[begin..].find('\n').unwrap() + 1;
    let end = begin + text[begin..].find("<!-- end -->").unwrap();
    format!("{}{part}\n{}", &text[..begin], &text[end..])
}

/// Words of `text` that begin with `prefix` and go on as names do.
fn names<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(move |(at, _)| {
        let rest = &text[at..];
        let end =
            rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.'));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.')
    })
}

#[tokio::test]
async fn every_setting_and_metric_is_documented_and_every_one_documented_exists() {
    let gateway = whole(&[("media.lanes", "1")]).await;
    let text = metrics(&gateway).await;
    let path = file("docs/operations.md");
    let written = fs::read_to_string(&path).unwrap();
    let expected = with_part(&with_part(&written, "settings", &settings()), "metrics", &metrics_table(&text));
    if std::env::var_os("WRITE_DOCUMENTS").is_some() {
        fs::write(&path, &expected).unwrap();
    } else {
        assert!(written == expected, "docs/operations.md: run this test once with WRITE_DOCUMENTS=1");
    }

    let known: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .flat_map(|(name, kind)| {
            let parts: &[&str] = if kind == "histogram" { &["", "_bucket", "_sum", "_count"] } else { &[""] };
            parts.iter().map(move |part| format!("{name}{part}"))
        })
        .collect();
    assert!(known.len() > 40, "{known:?}");
    let alerts = fs::read_to_string(file("deploy/prometheus-alerts.yaml")).unwrap();
    // The module that an example of `log.level` names.
    let metrics = expected.replace("evenkeel_gateway::", "");
    for name in names(&metrics, "evenkeel_").chain(names(&alerts, "evenkeel_")) {
        assert!(known.contains(name), "there is no metric {name}");
    }
    let compose = fs::read_to_string(file("deploy/compose.yaml")).unwrap();
    let variables: BTreeSet<_> = FIELDS.iter().map(evenkeel_gateway::config::Field::env).collect();
    for line in compose.lines().chain(expected.lines()) {
        for (at, _) in line.match_indices("EVENKEEL_") {
            let rest = &line[at..];
            let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).unwrap_or(rest.len());
            assert!(variables.contains(&rest[..end]) || &rest[..end] == "EVENKEEL_SECTION_NAME", "{line}");
        }
    }
    let paths: BTreeSet<_> = FIELDS.iter().map(|field| field.path).collect();
    let units = fs::read_to_string(file("deploy/evenkeel.service")).unwrap();
    for text in [&expected, &alerts, &units, &compose] {
        for (section, _) in SECTIONS {
            for name in names(text, &format!("{section}.")).filter(|name| name.contains('.')) {
                // Names of files begin as settings do.
                let is_file = [".json", ".md"].iter().any(|ending| name.ends_with(ending));
                assert!(is_file || paths.contains(name), "there is no setting {name}");
            }
        }
    }
}
