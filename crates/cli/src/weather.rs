//! The options of a simulated network.

use std::time::Duration;

use clap::Args as ClapArgs;
use evenkeel_testkit::network::{Jitter, Loss, Network, NetworkConfig};

use crate::failure::Failure;
use crate::far_end::{LONG, Patience};

/// What the simulated network does.
#[derive(ClapArgs, Debug)]
#[command(next_help_heading = "Simulated network")]
pub(crate) struct Weather {
    /// Share of datagrams that are lost, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    loss: f64,

    /// Datagrams lost in a row, on average [default: as chance has it]
    #[arg(long, value_name = "COUNT", requires = "loss")]
    burst: Option<f64>,

    /// Delay on top of the least, in milliseconds: exponentially distributed with this mean
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    jitter: f64,

    /// Share of datagrams that are overtaken by others, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    reorder: f64,

    /// Share of datagrams that arrive twice, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    duplicate: f64,

    /// How long the listener waits for a packet that is late or lost [default: adapts, as in a call]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u16).range(..=10_000))]
    wait: Option<u16>,

    /// The same seed gives the same network
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

fn percent(text: &str) -> Result<f64, String> {
    let given = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    given.ok_or_else(|| "must be from 0 to 100 percent".to_owned())
}

impl Weather {
    /// How long the listener waits; where the network does nothing, longer than it takes.
    pub(crate) fn patience(&self) -> Result<Patience, Failure> {
        let adapts = self.network()?.map_or(Patience::Fixed(LONG), |_| Patience::Adaptive);
        Ok(self.wait().map_or(adapts, Patience::Fixed))
    }

    /// How long the listener was told to wait.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait.map(|ms| Duration::from_millis(ms.into()))
    }

    /// The network; `None` if it would do nothing.
    pub(crate) fn network(&self) -> Result<Option<Network>, Failure> {
        let config = self.config()?;
        let network = Network::new(self.seed, config).map_err(Failure::input)?;
        Ok((config != NetworkConfig::default()).then_some(network))
    }

    /// What it does, each way.
    pub(crate) fn config(&self) -> Result<NetworkConfig, Failure> {
        if !(0.0..=60_000.0).contains(&self.jitter) {
            return Err(Failure::input("--jitter must be from 0 to 60000 ms"));
        }
        Ok(NetworkConfig {
            loss: match self.burst {
                _ if self.loss == 0.0 => Loss::None,
                None => Loss::Random(self.loss / 100.0),
                Some(mean_burst) => Loss::Bursty { p: self.loss / 100.0, mean_burst },
            },
            jitter: match self.jitter {
                0.0 => Jitter::None,
                mean => Jitter::Exponential(Duration::from_secs_f64(mean / 1_000.0)),
            },
            reorder: self.reorder / 100.0,
            duplicate: self.duplicate / 100.0,
            ..NetworkConfig::default()
        })
    }

    /// The same seed loses the same datagrams.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }
}
