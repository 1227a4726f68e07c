//! The cluster form of a load: the streams spread over processes, as several gateways on one host would have them.

use std::process::{Command, Stdio};

use evenkeel_bench::load::{Kind, LoadConfig, LoadReport};

use crate::failure::Failure;

/// Runs this program `processes` times with a share of the streams each, and adds up what they tell.
pub(crate) fn run(processes: u32, config: &LoadConfig, profile: &str) -> Result<LoadReport, Failure> {
    let program = std::env::current_exe().map_err(Failure::machine)?;
    let processes = (processes as usize).min(config.streams);
    let lanes = (config.engine.lanes / processes).max(1);
    let share = |i: usize| config.streams / processes + usize::from(i < config.streams % processes);
    let start = |i: usize| {
        let mut command = Command::new(&program);
        command.args(["load", "--json", "--profile", profile]);
        command.arg(format!("--streams={}", share(i)));
        command.arg(format!("--seconds={}", config.duration.as_secs_f64()));
        command.arg(format!("--frame={}", config.frame.as_millis_f64()));
        command.arg(format!("--lanes={lanes}"));
        command.arg(format!("--first-core={}", i * lanes));
        match config.kind {
            Kind::Relay => command.arg("--relay"),
            Kind::Transcode { rate, complexity } => {
                command.arg(format!("--rate={}", rate.hz())).arg(format!("--complexity={complexity}"))
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(Failure::machine)
    };
    let running = (0..processes).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut reports = Vec::new();
    for child in running {
        let output = child.wait_with_output().map_err(Failure::machine)?;
        if !output.status.success() {
            return Err(Failure::machine(format!("a process of the cluster ended with {}", output.status)));
        }
        reports.push(serde_json::from_slice(&output.stdout).map_err(Failure::machine)?);
    }
    LoadReport::merge(reports).ok_or_else(|| Failure::machine("no process reported"))
}
