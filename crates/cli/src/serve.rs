//! `evenkeel serve`: the gateway, until it is told to stop.

mod greeting;
mod log;

use clap::Args as ClapArgs;
use evenkeel_gateway::config::Config;
use evenkeel_gateway::run::{Gateway, RunError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::greeting::Greeting;
use self::log::Log;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  evenkeel serve
      an echo room for devices on this machine; try `evenkeel call --wav talk.wav --out reply.wav`

  MQTT_SIGNATURE_KEY=... evenkeel serve --set media.public_address=203.0.113.7
      the same for devices anywhere that can prove who they are

  evenkeel serve --set room.kind=websocket --set websocket.servers=ws://127.0.0.1:8000/xiaozhi/v1/
      devices talk to a chat server

`evenkeel config --default` prints every setting, documented. SIGTERM and Ctrl-C let replies that play end (a second one
does not wait), SIGHUP reads the settings anew.

Exit codes: 0 stopped as told, 1 the machine refused (a port is taken), 2 a setting is wrong.";

/// Run the gateway: devices on one side, rooms on the other
#[derive(ClapArgs, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: Settings,

    /// Say where it listens as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let config = args.settings.load()?;
    let log = Log::start(&config.log.level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::machine)?;
    let served = runtime.block_on(serve(args, config, &log));
    // Nobody waits for a name that is being looked up.
    runtime.shutdown_background();
    served
}

async fn serve(args: &Args, config: Config, log: &Log) -> Result<(), Failure> {
    let mut stop = Stop { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? };
    let mut hangup = on(SignalKind::hangup())?;
    let mut gateway = Gateway::start(config).await.map_err(|error| match error {
        RunError::Config(error) => Failure::input(error),
        error => Failure::machine(error),
    })?;
    let greeting = Greeting::new(&gateway);
    terminal::say(if args.json { greeting.json() } else { greeting.to_string() });
    loop {
        tokio::select! {
            Some(()) = hangup.recv() => reload(args, &mut gateway, log),
            () = stop.told() => break,
        }
    }
    tracing::info!(calls = gateway.hub().registry.live(), "draining; tell it again to stop at once");
    tokio::select! {
        () = gateway.drain() => tracing::info!("all calls have ended"),
        () = stop.told() => tracing::warn!("stopped before all calls had ended"),
    }
    Ok(())
}

fn reload(args: &Args, gateway: &mut Gateway, log: &Log) {
    let newer = match args.settings.load() {
        Ok(newer) => newer,
        Err(failure) => return tracing::error!("settings were not read anew: {failure}"),
    };
    if let Err(failure) = log.set(&newer.log.level) {
        return tracing::error!("settings were not read anew: {failure}");
    }
    let reload = gateway.reload(&newer);
    for failed in &reload.failed {
        tracing::error!("not read anew, what was there goes on: {failed}");
    }
    tracing::info!(changed = ?reload.changed, needs_a_restart = ?reload.pending, "settings were read anew");
}

/// The signals that stop it.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn on(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(Failure::machine)
}
