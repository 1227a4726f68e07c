//! The old gateway's `mqtt.json` as settings.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use thiserror::Error;

use super::value::{Setting as _, quoted};

/// The old file cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Not JSON.
    #[error("the file is not a JSON object (line {line}, column {column})")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A field of the wrong type.
    #[error("`{field}` must be {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// Translates the text of `mqtt.json` to the text of `evenkeel.toml`. What has no counterpart becomes a comment, never
/// silence.
///
/// # Errors
/// [`ImportError`].
pub fn import(json: &str) -> Result<String, ImportError> {
    let mut old: Map<String, Value> =
        serde_json::from_str(json).map_err(|e| ImportError::Json { line: e.line(), column: e.column() })?;
    let mut out = "# Translated from mqtt.json. Ports, keys and the public address were environment variables of the\n\
         # old gateway; they still are: MQTT_PORT, UDP_PORT, API_PORT, PUBLIC_IP, MQTT_SIGNATURE_KEY, SERVER_SECRET.\n"
        .to_owned();
    let mut production = section(&mut old, "production")?;
    let mut development = section(&mut old, "development")?;
    let servers = strings(&mut production, "chat_servers", "production.chat_servers")?;
    if !servers.is_empty() {
        let _ = writeln!(out, "\n[room]\nkind = \"websocket\"");
    }
    let _ = writeln!(out, "\n[websocket]\nservers = {}", servers.write());
    let development_servers = strings(&mut development, "chat_servers", "development.chat_servers")?;
    // Spelt with three s in the wild.
    let mut devices = strings(&mut development, "mac_addresss", "development.mac_addresss")?;
    devices.extend(strings(&mut development, "mac_addresses", "development.mac_addresses")?);
    if !devices.is_empty() || !development_servers.is_empty() {
        let _ = writeln!(out, "development_servers = {}", development_servers.write());
        let _ = writeln!(out, "development_devices = {}", devices.write());
    }
    if let Some(limit) = whole(&mut old, "max_mqtt_payload_size", "max_mqtt_payload_size")? {
        let _ = writeln!(out, "\n[mqtt]\nmax_payload = {limit}");
    }
    let mut mcp = section(&mut old, "mcp_client")?;
    let mut info = section(&mut mcp, "client_info")?;
    let mut lines = Vec::new();
    for (field, name) in [("name", "client_name"), ("version", "client_version")] {
        if let Some(Value::String(text)) = info.get(field) {
            lines.push(format!("{name} = {}", text.write()));
            info.remove(field);
        }
    }
    if let Some(count) = whole(&mut mcp, "max_tools_count", "mcp_client.max_tools_count")? {
        lines.push(format!("max_tools = {count}"));
    }
    if mcp.get("capabilities") == Some(&Value::Object(Map::new())) {
        mcp.remove("capabilities");
    }
    if !lines.is_empty() {
        let _ = writeln!(out, "\n[mcp]\n{}", lines.join("\n"));
    }
    match old.get("debug") {
        Some(Value::Bool(true)) => _ = writeln!(out, "\n[log]\nlevel = \"debug\""),
        Some(Value::Bool(false)) | None => {}
        Some(_) => return Err(ImportError::Field { field: "debug", expected: "true or false" }),
    }
    old.remove("debug");
    for (within, rest) in [
        ("", old),
        ("production.", production),
        ("development.", development),
        ("mcp_client.", mcp),
        ("mcp_client.client_info.", info),
    ] {
        for (name, value) in rest {
            // As JSON and quoted once more, neither has a line's end or another character that comments may not have.
            let (name, value) = (quoted(&format!("{within}{name}")), quoted(&value.to_string()));
            let _ = writeln!(out, "\n# not translated: {name} = {value}");
        }
    }
    Ok(out)
}

fn section(old: &mut Map<String, Value>, field: &'static str) -> Result<Map<String, Value>, ImportError> {
    match old.remove(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(section)) => Ok(section),
        Some(_) => Err(ImportError::Field { field, expected: "an object" }),
    }
}

fn whole(
    section: &mut Map<String, Value>,
    name: &str,
    field: &'static str,
) -> Result<Option<u64>, ImportError> {
    let wrong = ImportError::Field { field, expected: "a whole number" };
    section.remove(name).map(|value| value.as_u64().ok_or(wrong)).transpose()
}

fn strings(
    section: &mut Map<String, Value>,
    name: &str,
    field: &'static str,
) -> Result<Vec<String>, ImportError> {
    let wrong = ImportError::Field { field, expected: "a list of strings" };
    match section.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(|| wrong.clone())).collect()
        }
        Some(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RoomKind, Sources};

    #[test]
    fn the_old_file_becomes_settings_that_load() {
        let old = r#"{
            "production": {"chat_servers": ["ws://a:8000/xiaozhi/v1/?from=mqtt_gateway"]},
            "development": {"chat_servers": ["ws://b:8180"], "mac_addresss": ["aa:bb:cc:dd:ee:ff"]},
            "debug": true, "max_mqtt_payload_size": 4096, "log_level": "x\ny",
            "mcp_client": {"capabilities": {}, "client_info": {"name": "n", "version": "2"}, "max_tools_count": 64}
        }"#;
        let text = import(old).unwrap();
        let file = Some(("f".to_owned(), text.clone()));
        let config = Config::load(&Sources { file, ..Sources::default() }).unwrap();
        assert_eq!(config.room.kind, RoomKind::Websocket);
        assert_eq!(config.websocket.servers, ["ws://a:8000/xiaozhi/v1/?from=mqtt_gateway"]);
        assert_eq!(config.websocket.development_servers, ["ws://b:8180"]);
        assert_eq!(config.websocket.development_devices, ["aa:bb:cc:dd:ee:ff"]);
        assert_eq!(config.mqtt.max_payload, 4096);
        assert_eq!((config.mcp.client_name.as_str(), config.mcp.max_tools), ("n", 64));
        assert_eq!(config.log.level, "debug");
        assert!(text.contains("# not translated: \"log_level\""));
    }

    #[test]
    fn what_has_no_counterpart_is_never_left_out_in_silence() {
        let old = r#"{"a": 1, "production": {"b": [2]}, "development": {"chat_servers": ["ws://dev"], "c": null},
            "mcp_client": {"capabilities": {"d": 3}, "client_info": {"name": 4, "title": "e"}, "f": {}}}"#;
        let text = import(old).unwrap();
        for (name, value) in [
            ("a", "1"),
            ("production.b", "[2]"),
            ("development.c", "null"),
            ("mcp_client.capabilities", r#"{\"d\":3}"#),
            ("mcp_client.client_info.name", "4"),
            ("mcp_client.client_info.title", r#"\"e\""#),
            ("mcp_client.f", "{}"),
        ] {
            let line = format!("# not translated: \"{name}\" = \"{value}\"");
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("development_servers = [\"ws://dev\"]"));
        let as_it_comes = import(r#"{"debug": false, "mcp_client": {"capabilities": {}}}"#).unwrap();
        assert!(!as_it_comes.contains("not translated"), "{as_it_comes}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(import("{"), Err(ImportError::Json { .. })));
        assert!(matches!(import("[]"), Err(ImportError::Json { .. })));
        let bad = import(r#"{"production":{"chat_servers":[3]}}"#);
        assert_eq!(bad.unwrap_err().to_string(), "`production.chat_servers` must be a list of strings");
        for (old, field) in [
            (r#"{"debug":"yes"}"#, "debug"),
            (r#"{"max_mqtt_payload_size":"8192"}"#, "max_mqtt_payload_size"),
            (r#"{"mcp_client":{"max_tools_count":1.5}}"#, "mcp_client.max_tools_count"),
            (r#"{"development":{"mac_addresss":"aa"}}"#, "development.mac_addresss"),
            (r#"{"production":[]}"#, "production"),
        ] {
            assert!(import(old).unwrap_err().to_string().contains(&format!("`{field}`")), "{old}");
        }
        assert!(import("{}").is_ok());
    }
}
