//! How a call went.

use std::fmt;
use std::path::Path;

use evenkeel_device::call::CallReport;
use serde::Serialize;

use super::listener::Listened;

/// From here on, gaps may be the caller's own.
const OWN_LATENESS_MS: f64 = 5.0;

/// See the [module](self).
#[derive(Serialize)]
pub(super) struct Report<'a> {
    #[serde(flatten)]
    call: &'a CallReport,
    listener: Listened,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Output>,
}

#[derive(Serialize)]
struct Output {
    path: String,
    seconds: Option<f64>,
}

impl<'a> Report<'a> {
    pub(super) const fn new(call: &'a CallReport, listener: Listened) -> Self {
        Self { call, listener, output: None }
    }

    pub(super) fn written(&mut self, path: &Path, seconds: Option<f64>) {
        self.output = Some(Output { path: path.display().to_string(), seconds });
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.call;
        let heard = &call.heard;
        let expected = (heard.packets + heard.lost).max(1);
        writeln!(f, "hello answered     {:.1} ms", call.hello_ms)?;
        match call.first_audio_ms {
            Some(first) => write!(f, "first audio        {first:.1} ms after the first word")?,
            None => write!(f, "first audio        none came")?,
        }
        if let Some(answer) = call.answer_ms {
            write!(f, ", {answer:.1} ms after the last before it")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "said               {} packets, {} lost by the simulated network; itself late by {:.1} ms at most",
            call.said, call.lost_up, call.own_lateness_ms
        )?;
        writeln!(
            f,
            "heard              {} packets, {} lost ({:.2} %; {} by the simulated network), {} not opened",
            heard.packets,
            heard.lost,
            100.0 * heard.lost as f64 / expected as f64,
            call.lost_down,
            call.not_opened
        )?;
        write!(
            f,
            "gaps               {:.3} % over 5 ms too long; p50 {:.2}, p99 {:.2}, max {:.2} ms, jitter (stdev) {:.3} ms",
            heard.gaps_over_percent, heard.gap_ms.p50, heard.gap_ms.p99, heard.gap_ms.max, heard.gap_stdev_ms
        )?;
        if heard.gaps_over_percent > 0.0 && call.own_lateness_ms > OWN_LATENESS_MS {
            write!(
                f,
                "\n                   (this machine woke the caller itself up to {:.0} ms late; how late the gateway was is on its dashboard)",
                call.own_lateness_ms
            )?;
        }
        let Listened { played, lost, late, recovered, concealed_ms, delay_ms, .. } = self.listener;
        write!(
            f,
            "\nplayed             {played} packets, held for {delay_ms:.0} ms; {concealed_ms:.0} ms concealed for {lost} lost and \
             {late} late, {recovered} recovered"
        )?;
        for message in &call.messages {
            write!(f, "\n{:>9.0} ms       {}", message.at_ms, message.message)?;
        }
        if let Some(output) = &self.output {
            write!(f, "\nwritten            {}", output.path)?;
            if let Some(seconds) = output.seconds {
                write!(f, ", {seconds:.1} s")?;
            }
        }
        Ok(())
    }
}
