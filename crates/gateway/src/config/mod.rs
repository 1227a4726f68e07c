//! Settings: the file, then the environment, then flags, each over the one before.

mod effective;
mod fields;
mod import;
mod load;
pub mod value;

pub use effective::{Anonymous, Effective};
pub use fields::{
    Broker, CallSection, Config, Devices, DownlinkTopic, FIELDS, Field, Livekit, Log, Management, Mcp, Media,
    Mqtt, Operations, PageSwitch, RoomKind, RoomSection, SECTIONS, SourceKind, Web, Websocket,
};
pub use import::{ImportError, import};
pub use load::{ConfigError, Reload, Sources};
