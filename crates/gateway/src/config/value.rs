//! Values as files, the environment and flags write them, and what they are read into.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML number.
    Number(String),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array of scalars.
    List(Vec<Self>),
    /// From the environment or a flag, where everything is text; lists are joined by commas.
    Word(String),
}

/// What a setting can be.
pub trait Setting: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What it should be.
    fn read(raw: &Raw) -> Result<Self, String>;

    /// Writes it as TOML.
    fn write(&self) -> String;
}

impl Raw {
    fn word(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Word(text) => Some(text),
            _ => None,
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    // JSON's escapes are a part of TOML's, which wants one more character escaped.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

impl Setting for bool {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Bool(value) => Ok(*value),
            Raw::Word(word) if matches!(word.as_str(), "true" | "1" | "yes" | "on") => Ok(true),
            Raw::Word(word) if matches!(word.as_str(), "false" | "0" | "no" | "off" | "") => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.word().map(str::to_owned).ok_or_else(|| "must be a string in quotes".to_owned())
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),+) => {$(
        impl Setting for $kind {
            fn read(raw: &Raw) -> Result<Self, String> {
                let text = match raw {
                    Raw::Number(text) | Raw::Word(text) => text.replace('_', ""),
                    _ => String::new(),
                };
                text.parse().map_err(|_| format!("must be a whole number from 0 to {}", <$kind>::MAX))
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_numbers!(u16, u32, usize);

impl Setting for f64 {
    fn read(raw: &Raw) -> Result<Self, String> {
        let parsed = match raw {
            Raw::Number(text) | Raw::Word(text) => text.parse::<Self>().ok(),
            _ => None,
        };
        parsed.filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(|| "must be a number from 0 up".to_owned())
    }

    fn write(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Duration {
    fn read(raw: &Raw) -> Result<Self, String> {
        const WANTED: &str =
            "must be a duration with its unit, such as \"500ms\", \"10s\", \"2min\" or \"1h\"";
        let text = raw.word().ok_or(WANTED)?.trim();
        let split = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or(WANTED)?;
        let number: f64 = text[..split].parse().map_err(|_| WANTED)?;
        let unit = match text[split..].trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(WANTED.to_owned()),
        };
        Self::try_from_secs_f64(number * unit).map_err(|_| WANTED.to_owned())
    }

    fn write(&self) -> String {
        let ms = self.as_millis();
        match ms {
            0 => "\"0s\"".to_owned(),
            _ if ms.is_multiple_of(3_600_000) => format!("\"{}h\"", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => format!("\"{}min\"", ms / 60_000),
            _ if ms.is_multiple_of(1000) => format!("\"{}s\"", ms / 1000),
            _ => format!("\"{ms}ms\""),
        }
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw) -> Result<Self, String> {
        let parsed = raw.word().and_then(|word| word.trim().parse().ok());
        parsed.ok_or_else(|| {
            "must be an address with a port, such as \"0.0.0.0:1883\" or \"[::]:1883\"".to_owned()
        })
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::List(values) => {
                values.iter().map(T::read).collect::<Result<_, _>>().map_err(|e| format!("each {e}"))
            }
            Raw::Word(words) => {
                let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.map(|word| T::read(&Raw::Word(word.to_owned()))).collect()
            }
            _ => Err("must be a list in brackets".to_owned()),
        }
    }

    fn write(&self) -> String {
        format!("[{}]", self.iter().map(T::write).collect::<Vec<_>>().join(", "))
    }
}

/// A secret: zeroized when dropped, and never shown.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// The secret; `None` if it is empty.
    #[must_use]
    pub fn expose(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(set)" })
    }
}

impl Setting for Secret {
    fn read(raw: &Raw) -> Result<Self, String> {
        String::read(raw).map(Self)
    }

    fn write(&self) -> String {
        quoted(if self.0.is_empty() { "" } else { "<set, not shown>" })
    }
}

/// An enumeration with a name for each value.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// As it is written in settings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl $crate::config::value::Setting for $name {
            fn read(raw: &$crate::config::value::Raw) -> Result<Self, String> {
                use $crate::config::value::Raw;
                let word = match raw { Raw::Text(text) | Raw::Word(text) => text.as_str(), _ => "" };
                match word {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}", [$(concat!("\"", $text, "\"")),+].join(", "))),
                }
            }

            fn write(&self) -> String {
                format!("\"{}\"", self.name())
            }
        }
    };
}
pub(super) use choice;

#[cfg(test)]
mod tests {
    use super::*;

    fn word<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&Raw::Word(text.to_owned()))
    }

    #[test]
    fn durations_need_their_unit() {
        for (text, ms) in [("0s", 0), ("500ms", 500), ("1.5s", 1500), ("2min", 120_000), ("1h", 3_600_000)] {
            let duration: Duration = word(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms));
            assert_eq!(Duration::read(&Raw::Text(duration.write().replace('"', ""))).unwrap(), duration);
        }
        for bad in ["", "10", "s", "-1s", "10 apples", "1e99999s", "99999999999999999999999h"] {
            assert!(word::<Duration>(bad).is_err(), "{bad}");
        }
        assert!(Duration::read(&Raw::Number("10".into())).unwrap_err().contains("unit"));
    }

    #[test]
    fn lists_come_in_brackets_or_with_commas() {
        assert_eq!(word::<Vec<u16>>("1, 2,").unwrap(), [1, 2]);
        let list = Raw::List(vec![Raw::Number("1".into()), Raw::Text("x".into())]);
        assert_eq!(Vec::<u16>::read(&list).unwrap_err(), "each must be a whole number from 0 to 65535");
        assert!(Vec::<u16>::read(&Raw::Number("1".into())).is_err());
    }

    #[test]
    fn any_text_is_quoted_so_that_it_can_be_read_again() {
        let text: String = (0..=0xffu8).map(char::from).chain("\u{feff}\u{2028}\u{10ffff}".chars()).collect();
        let line = format!("x = {}", quoted(&text));
        let table = toml::de::DeTable::parse(&line).unwrap();
        assert_eq!(table.get_ref()["x"].get_ref().as_str(), Some(&*text));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::from("hunter2");
        assert!(!format!("{secret:?}{}", secret.write()).contains("hunter2"));
        assert_eq!(secret.expose(), Some("hunter2"));
        assert_eq!(Secret::default().expose(), None);
    }
}
