//! A kernel that can do what these tests need: network namespaces, netem, address translation.
//!
//! Where this one can and we are root, a test runs in it. Elsewhere, and many kernels of virtual machines come without
//! netem, it runs in another one: User-Mode Linux, a kernel that is a program. That needs no root and no module, sees the
//! files of this machine, and ends with all that it had. It is there for x86-64 only; elsewhere a kernel without netem means
//! that nothing is tested, and no more can be asked.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evenkeel_testkit::tools;

use crate::lab::{Lab, attempt};

/// Set where a test runs in the kernel that was started for it.
const INSIDE: &str = "EVENKEEL_NETNS_INSIDE";

/// What Debian's package `user-mode-linux` brings.
const PROGRAM: &str = "linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";
const WANTED: &str =
    "veth sch_netem sch_prio cls_u32 iptable_nat iptable_filter xt_nat xt_tcpudp nf_conntrack_netlink";

/// How long a test may take in there, with all that it waits for.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs the test of this name, whose body is `body`, where it can be run.
pub(crate) fn run_test(name: &str, body: fn()) {
    // One at a time: they share two processors with a kernel that has one.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for program in ["ip", "tc", "iptables-legacy", "conntrack"] {
        if tools::find(program).is_none() {
            return;
        }
    }
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    match suits() {
        Ok(()) => body(),
        Err(why) => {
            println!("not in this kernel ({why}), so in {PROGRAM}");
            if cfg!(not(target_arch = "x86_64")) {
                println!("skipped: {PROGRAM} is not made for this machine");
            } else if tools::find(PROGRAM).is_some() && tools::find("modprobe").is_some() {
                run_inside(name);
            }
        }
    }
}

/// Whether this kernel will do, by trying.
fn suits() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("that takes root".to_owned());
    }
    Lab::try_out()
}

/// The kernel with what it was told to run, and its folder.
struct Guest {
    kernel: Child,
    folder: PathBuf,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its processes are children of it, in its group.
        if let Ok(group) = i32::try_from(self.kernel.id())
            && let Some(group) = rustix::process::Pid::from_raw(group)
            && matches!(self.kernel.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.kernel.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn run_inside(name: &str) {
    let folder = std::env::temp_dir().join(format!("evenkeel-uml-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("lib")).unwrap();
    symlink(MODULES, folder.join("lib/modules")).unwrap();
    let init = folder.join("init");
    fs::write(&init, script(name, &folder)).unwrap();
    attempt(Command::new("chmod").arg("+x").arg(&init)).unwrap();
    let log = fs::File::create(folder.join("console")).unwrap();
    let kernel = Command::new(PROGRAM)
        .args([
            "mem=512M",
            "quiet",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rw",
            "con=null",
            "con0=null,fd:1",
        ])
        .arg(format!("init={}", init.display()))
        .args([format!("uml_dir={}", folder.display()), "umid=test".to_owned()])
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn()
        .unwrap();
    let mut guest = Guest { kernel, folder };
    let began = Instant::now();
    while guest.kernel.try_wait().unwrap().is_none() && began.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |file: &str| fs::read_to_string(guest.folder.join(file)).unwrap_or_default();
    let (said, code) = (read("said"), read("code"));
    print!("{said}");
    assert!(code.trim() == "0", "it failed in {PROGRAM}:\n{said}\nwhose console is\n{}", read("console"));
}

/// What the kernel runs as its first process: the test, then its own end.
fn script(name: &str, folder: &Path) -> String {
    let (test, folder) = (std::env::current_exe().unwrap(), folder.display());
    let strict = std::env::var("EVENKEEL_NOTHING_SKIPPED")
        .map_or_else(|_| String::new(), |strict| format!("export EVENKEEL_NOTHING_SKIPPED={strict}\n"));
    format!(
        "#!/bin/sh\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin RUST_BACKTRACE=1 {INSIDE}=1\n\
         {strict}\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run\n\
         for module in {WANTED}; do modprobe -d '{folder}' $module; done\n\
         ip link set lo up\n\
         '{}' --exact {name} --nocapture >'{folder}/said' 2>&1\n\
         echo $? >'{folder}/code'\n\
         echo o >/proc/sysrq-trigger\n\
         sleep 60\n",
        test.display()
    )
}
