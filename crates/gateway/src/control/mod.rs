//! The shell around calls: a task each, and what ties devices, rooms, lanes and operators together.

mod actor;
mod clock;
mod hub;
mod pairing;
mod rooms;
mod settings;

pub use actor::{Command, INBOX_CAPACITY, Inbox};
pub use clock::Clock;
pub use hub::{Attachment, Content, Hub, OUTLET_CAPACITY, Outgoing, Outlet, Profile};
pub use pairing::{Accepted, Pairing, RINGING, Requested};
pub use rooms::RoomMaker;
pub use settings::{HubConfig, SourceRule};
