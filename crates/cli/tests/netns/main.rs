//! Calls through a real network that loses, delays and changes addresses: three hosts in namespaces of a kernel, with
//! netem and address translation on the router between device and gateway. Nothing is simulated but the device.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod kernel;
mod lab;
mod talk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::kernel::run_test;
use self::lab::{Lab, OTHER_PUBLIC, PUBLIC, Way};
use self::talk::{Device, Gateway, Report};

/// Packets at the start and at the end of a call, or of what was said in it, of which nobody can know that they are missing.
const ENDS: u64 = 6;

const MIDDLING: &str = "delay 20ms 5ms loss 5%";
const SPIKE: &str = "delay 220ms 5ms loss 5%";

/// Everything that was said is heard or was dropped where we can see it.
fn all_are_accounted_for(lab: &Lab, gateway: &Gateway<'_>, report: &Report) {
    let (up, down) = (lab.netem(Way::Up), lab.netem(Way::Down));
    let call = gateway.until("what was said and not dropped was received", |call| {
        call.is_over && call.received + call.refused + up.dropped == report.said
    });
    let all =
        format!("{call:?}, netem up {up:?}, down {down:?}, {} strayed, {}", lab.strayed(), report.whole);
    assert_eq!(up.delivered, call.received + call.refused, "{all}");
    assert_eq!(report.heard, down.delivered, "{all}");
    assert_eq!(call.sent + call.dropped + call.late, call.received, "{all}");
    assert_eq!(call.sent, report.heard + down.dropped + lab.strayed(), "{all}");
    let missed = up.dropped + call.refused;
    assert!(call.lost <= missed && call.lost + ENDS >= missed, "the gateway's count: {all}");
    let missed = down.dropped + lab.strayed();
    assert!(report.lost <= missed && report.lost + ENDS >= missed, "the device's count: {all}");
}

#[test]
fn a_call_survives_loss_spikes_and_another_source_port() {
    run_test("a_call_survives_loss_spikes_and_another_source_port", || {
        let lab = Lab::new();
        let gateway = Gateway::start(&lab, &[]);
        for way in [Way::Up, Way::Down] {
            lab.weather(way, MIDDLING);
        }
        let mut device = Device::call(&lab, 16, &[]);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // What was sent in a spike is overtaken by what is sent after it.
            scope.spawn(|| {
                for way in [Way::Up, Way::Down].into_iter().cycle() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    lab.weather(way, SPIKE);
                    std::thread::sleep(Duration::from_millis(150));
                    lab.weather(way, MIDDLING);
                    std::thread::sleep(Duration::from_millis(700));
                }
            });
            let before = gateway.until("the call began", |call| call.received >= 60);
            lab.translate(&format!("{PUBLIC}:41000-41099"));
            gateway.until("it goes on", |call| call.received >= before.received + 60);
            while device.is_calling() {
                std::thread::sleep(Duration::from_millis(100));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let report = device.report();
        all_are_accounted_for(&lab, &gateway, &report);
        let call = gateway.call();
        let (up, down) = (lab.netem(Way::Up), lab.netem(Way::Down));
        assert!(up.dropped > 0 && down.dropped > 0, "{up:?} {down:?}");
        assert_eq!(call.refused, 0);
        assert!(lab.strayed() < 20, "{}", lab.strayed());
        // At the least what was lost on the way down is concealed; what was lost or overtaken on the way up is missing, too.
        assert!(report.concealed_ms >= 60.0 * report.lost as f64, "{}", report.whole);
        assert!(report.played * 3 >= report.said * 2, "most of it is heard: {}", report.whole);
    });
}

#[test]
fn what_is_concealed_is_what_the_network_dropped() {
    run_test("what_is_concealed_is_what_the_network_dropped", || {
        let lab = Lab::new();
        let gateway = Gateway::start(&lab, &[]);
        lab.weather(Way::Up, "delay 20ms 5ms");
        lab.weather(Way::Down, "delay 20ms 5ms loss 5%");
        // Nobody waits so long for a packet, but then none is late and each that is concealed was lost.
        let report = Device::call(&lab, 15, &["--wait", "400"]).report();
        all_are_accounted_for(&lab, &gateway, &report);
        assert_eq!(report.played + report.late, report.heard);
        let missing_ms = 60.0 * report.lost as f64;
        assert!(report.concealed_ms >= missing_ms, "{report:?}");
        if report.late == 0 && report.own_lateness_ms < 200.0 {
            // Beside that a jitter buffer conceals a frame of 20 ms now and then, to be as deep as it should.
            assert!(report.concealed_ms <= missing_ms + 100.0, "{report:?}");
        }
    });
}

#[test]
fn another_address_is_taken_only_where_settings_say_so() {
    run_test("another_address_is_taken_only_where_settings_say_so", || {
        for (source, is_taken) in [("mqtt-ip", false), ("any", true)] {
            let lab = Lab::new();
            let gateway = Gateway::start(&lab, &[&format!("media.source={source}")]);
            // Long, as machines that are busy are slow to translate.
            let device = Device::call(&lab, 30, &[]);
            let mut call = gateway.until("the call began", |call| call.received >= 30);
            lab.translate(&format!("{OTHER_PUBLIC}:42000-42099"));
            if is_taken {
                gateway.until("it goes on from there", |now| now.received >= call.received + 60);
            } else {
                call = gateway.until("it is refused", |now| now.refused >= 20);
                let later = gateway.until("it is refused", |now| now.refused >= call.refused + 20);
                assert_eq!(
                    (later.received, later.sent),
                    (call.received, call.sent),
                    "nothing goes either way"
                );
                gateway.until_metric("evenkeel_lane_refused_total", "source", later.refused);
                lab.translate(&format!("{PUBLIC}:43000-43099"));
                gateway.until("it goes on from home", |now| now.received >= later.received + 30);
            }
            let report = device.report();
            all_are_accounted_for(&lab, &gateway, &report);
            assert_eq!(gateway.call().refused > 0, !is_taken);
            assert!(report.heard >= 80, "{}", report.whole);
        }
    });
}
