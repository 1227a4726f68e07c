//! Reading settings, and saying exactly what is wrong with them.

use std::fmt::Write as _;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::fields::{Config, FIELDS, SECTIONS};
use super::value::Raw;

/// Environment variables of the old gateway and of LiveKit, and what they set. Ports keep the address there is.
const OLD_NAMES: &[(&str, &str)] = &[
    ("PUBLIC_IP", "media.public_address"),
    ("MQTT_PORT", "mqtt.listen"),
    ("UDP_PORT", "media.udp_port"),
    ("API_PORT", "management.listen"),
    ("MQTT_SIGNATURE_KEY", "devices.signature_key"),
    ("SERVER_SECRET", "websocket.secret"),
    ("LIVEKIT_URL", "livekit.url"),
    ("LIVEKIT_API_KEY", "livekit.api_key"),
    ("LIVEKIT_API_SECRET", "livekit.api_secret"),
];

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The name and the text of the file.
    pub file: Option<(String, String)>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// `section.name` and value of each flag.
    pub flags: Vec<(String, String)>,
}

/// What is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{origin}: {reason}")]
    Syntax {
        /// File and line.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// A setting that is not known.
    #[error("{origin}: `{name}` is not a setting{}", nearest.as_ref().map_or(String::new(), |n| format!("; did you mean `{n}`?")))]
    Unknown {
        /// File and line, variable or flag.
        origin: String,
        /// What was written.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A value that cannot be.
    #[error("{origin}: `{name}` {reason}")]
    Value {
        /// File and line, variable or flag.
        origin: String,
        /// Which setting.
        name: String,
        /// What it must be.
        reason: String,
    },
}

impl ConfigError {
    /// Says where the setting was set, of an error that was found once all of them were known.
    #[must_use]
    pub fn located(self, sources: &Sources) -> Self {
        match self {
            Self::Value { origin, name, reason } if origin == EVERYWHERE => {
                let origin = sources.origin_of(&name).unwrap_or(origin);
                Self::Value { origin, name, reason }
            }
            other => other,
        }
    }
}

impl Sources {
    /// Where a setting got its value; `None` if it has its default.
    fn origin_of(&self, path: &str) -> Option<String> {
        if self.flags.iter().any(|(name, _)| name == path) {
            return Some(format!("--set {path}"));
        }
        let ours = FIELDS.iter().find(|field| field.path == path).map(super::fields::Field::env);
        let old = OLD_NAMES.iter().find(|(_, sets)| *sets == path).map(|(old, _)| (*old).to_owned());
        let variable =
            [ours, old].into_iter().flatten().find(|name| self.env.iter().any(|(set, _)| set == name));
        variable.or_else(|| {
            let (name, text) = self.file.as_ref()?;
            let (section, key) = path.split_once('.')?;
            let table = DeTable::parse(text).ok()?;
            let fields = table.get_ref().get(section)?.get_ref().as_table()?;
            let (key, _) = fields.get_key_value(key)?;
            Some(line(name, text, key.span().start))
        })
    }
}

/// The origin of what is wrong with several settings together.
pub(crate) const EVERYWHERE: &str = "settings";

/// What a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Settings that are now in force.
    pub changed: Vec<&'static str>,
    /// Settings that differ and take a restart.
    pub pending: Vec<&'static str>,
    /// What could not be read anew, and why; what was there before goes on.
    pub failed: Vec<String>,
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn load(sources: &Sources) -> Result<Self, Vec<ConfigError>> {
        let (mut config, mut errors) = (Self::default(), Vec::new());
        if let Some((name, text)) = &sources.file {
            config.read_file(name, text, &mut errors);
        }
        config.read_env(&sources.env, &mut errors);
        for (path, value) in &sources.flags {
            config.assign(&format!("--set {path}"), path, &Raw::Word(value.clone()), &mut errors);
        }
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    fn read_file(&mut self, name: &str, text: &str, errors: &mut Vec<ConfigError>) {
        let origin = |at: usize| line(name, text, at);
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let origin = origin(error.span().map_or(0, |span| span.start));
                return errors.push(ConfigError::Syntax { origin, reason: error.message().to_owned() });
            }
        };
        for (section, body) in table.get_ref() {
            let sections = || SECTIONS.iter().map(|(name, _)| *name);
            let is_section = sections().any(|known| known == section.get_ref());
            let Some(fields) = body.get_ref().as_table() else {
                let (origin, name) = (origin(section.span().start), section.get_ref());
                errors.push(if is_section {
                    let reason = format!("must be a section: [{name}]");
                    ConfigError::Value { origin, name: name.to_string(), reason }
                } else {
                    unknown(origin, name)
                });
                continue;
            };
            if !is_section {
                let nearest = nearest(section.get_ref(), sections()).map(str::to_owned);
                let origin = origin(section.span().start);
                errors.push(ConfigError::Unknown { origin, name: section.get_ref().to_string(), nearest });
                continue;
            }
            for (key, value) in fields {
                let path = format!("{}.{}", section.get_ref(), key.get_ref());
                match raw(value.get_ref()) {
                    Some(raw) => self.assign(&origin(key.span().start), &path, &raw, errors),
                    None if self.get(&path).is_none() => {
                        errors.push(unknown(origin(key.span().start), &path));
                    }
                    None => errors.push(ConfigError::Value {
                        origin: origin(key.span().start),
                        name: path,
                        reason: "must be a string, a number, true or false, or a list of those".to_owned(),
                    }),
                }
            }
        }
    }

    fn read_env(&mut self, env: &[(String, String)], errors: &mut Vec<ConfigError>) {
        for (variable, value) in env {
            let Some((_, path)) = OLD_NAMES.iter().find(|(old, _)| old == variable) else { continue };
            // The old gateway had a port where there is an address now.
            match value.trim().parse::<u16>() {
                Ok(port) if path.ends_with(".listen") => {
                    self.assign(variable, path, &Raw::Word(format!("0.0.0.0:{port}")), errors);
                }
                Err(_) if variable.ends_with("_PORT") => errors.push(ConfigError::Value {
                    origin: variable.clone(),
                    name: (*path).to_owned(),
                    reason: format!("must be a port, a whole number from 0 to {}", u16::MAX),
                }),
                _ => self.assign(variable, path, &Raw::Word(value.clone()), errors),
            }
        }
        for (variable, value) in env {
            if !variable.starts_with("EVENKEEL_") {
                continue;
            }
            match FIELDS.iter().find(|field| field.env() == *variable) {
                Some(field) => self.assign(variable, field.path, &Raw::Word(value.clone()), errors),
                None => {
                    let names: Vec<String> = FIELDS.iter().map(super::fields::Field::env).collect();
                    let nearest = nearest(variable, names.iter().map(String::as_str)).map(str::to_owned);
                    let origin = "environment".to_owned();
                    errors.push(ConfigError::Unknown { origin, name: variable.clone(), nearest });
                }
            }
        }
    }

    fn assign(&mut self, origin: &str, path: &str, raw: &Raw, errors: &mut Vec<ConfigError>) {
        match self.set(path, raw) {
            Some(Ok(())) => {}
            Some(Err(reason)) => {
                let (origin, name) = (origin.to_owned(), path.to_owned());
                errors.push(ConfigError::Value { origin, name, reason });
            }
            None => errors.push(unknown(origin.to_owned(), path)),
        }
    }

    /// All settings as a file with their documentation, secrets hidden.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (section, doc) in SECTIONS {
            comment(doc, &mut out);
            let _ = writeln!(out, "[{section}]");
            for field in FIELDS.iter().filter(|field| field.path.split('.').next() == Some(section)) {
                comment(field.doc, &mut out);
                let name = field.path.split('.').nth(1).unwrap_or_default();
                let _ = writeln!(out, "{name} = {}", self.get(field.path).unwrap_or_default());
            }
            out.push('\n');
        }
        out
    }

    /// Takes over from `newer` what a running gateway can change, and says what it cannot.
    pub fn reload(&mut self, newer: &Self) -> Reload {
        let mut reload = Reload::default();
        for field in FIELDS.iter().filter(|field| !self.same(newer, field.path)) {
            if field.reloads { &mut reload.changed } else { &mut reload.pending }.push(field.path);
        }
        self.devices.signature_key = newer.devices.signature_key.clone();
        self.operations.token = newer.operations.token.clone();
        self.log.level.clone_from(&newer.log.level);
        reload
    }
}

/// The file, and the line that the byte at `at` stands in.
fn line(name: &str, text: &str, at: usize) -> String {
    format!("{name}:{}", text[..at.min(text.len())].matches('\n').count() + 1)
}

fn comment(doc: &str, out: &mut String) {
    for line in doc.trim_end().lines() {
        let _ = writeln!(out, "# {}", line.trim());
    }
}

fn unknown(origin: String, path: &str) -> ConfigError {
    let nearest = nearest(path, FIELDS.iter().map(|field| field.path)).map(str::to_owned);
    ConfigError::Unknown { origin, name: path.to_owned(), nearest }
}

fn raw(value: &DeValue<'_>) -> Option<Raw> {
    Some(match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Array(values) => {
            Raw::List(values.iter().map(|value| raw(value.get_ref())).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// The name that takes the fewest changes, if they are few. A name that agrees after the dot counts as near.
fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let scored = among.map(|known| {
        let whole = distance(name, known);
        let part = distance(&last(name), &last(known)) + 2;
        (whole.min(part), known)
    });
    scored
        .filter(|(changes, known)| changes * 2 <= known.len().max(4))
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, known)| known)
}

/// How many letters must be changed, added or left out (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
