use super::*;
use crate::config::fields::RoomKind;

fn file(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::load(&Sources { file: Some(("evenkeel.toml".into(), text.into())), ..Sources::default() })
}

fn complaint(text: &str) -> String {
    file(text).unwrap_err().remove(0).to_string()
}

#[test]
fn what_is_shown_is_read_back() {
    let config = file("[room]\nkind = \"websocket\"\n[call]\nidle_limit = \"90s\"\n").unwrap();
    assert_eq!(config.room.kind, RoomKind::Websocket);
    assert_eq!(file(&config.to_toml()).unwrap(), config);
}

#[test]
fn every_setting_can_be_set_from_file_environment_and_flag_each_over_the_one_before() {
    let defaults = Config::default();
    for field in FIELDS {
        let (section, name) = field.path.split_once('.').unwrap();
        let shown = defaults.get(field.path).unwrap();
        // Three values of the kind, unlike each other.
        let values = match shown.as_str() {
            "true" | "false" => ["true", "false", "true"],
            _ if shown.starts_with('[') && shown.contains(':') => ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"],
            _ if field.path.ends_with(".tls_listen") => ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"],
            _ if field.path == "room.kind" => ["livekit", "websocket", "echo"],
            _ if field.path == "web.page" => ["on", "off", "auto"],
            _ if field.path == "media.source" => ["any", "first", "any"],
            _ if field.path == "broker.downlink" => ["client", "mac", "client"],
            _ if ["s\"", "min\"", "h\""].iter().any(|unit| shown.ends_with(unit)) => ["7s", "8s", "9s"],
            _ => ["7", "8", "9"],
        };
        let quote = |value: &str| match shown.chars().next().unwrap() {
            '[' => format!("[\"{value}\"]"),
            '"' => format!("\"{value}\""),
            _ => value.to_owned(),
        };
        let mut sources = Sources {
            file: Some(("f".into(), format!("[{section}]\n{name} = {}\n", quote(values[0])))),
            ..Sources::default()
        };
        let expect = |sources: &Sources, value: &str| {
            let mut wanted = Config::default();
            wanted.set(field.path, &Raw::Word(value.to_owned())).unwrap().unwrap();
            let loaded = Config::load(sources).unwrap_or_else(|e| panic!("{}: {e:?}", field.path));
            assert!(loaded.same(&wanted, field.path), "{} is not {value}", field.path);
        };
        expect(&sources, values[0]);
        sources.env.push((field.env(), values[1].to_owned()));
        expect(&sources, values[1]);
        sources.flags.push((field.path.to_owned(), values[2].to_owned()));
        expect(&sources, values[2]);
    }
}

#[test]
fn unknown_names_are_errors_with_line_and_nearest() {
    for (text, said) in [
        (
            "[mqtt]\nlisten = []\nmax_paylod = 1\n",
            "evenkeel.toml:3: `mqtt.max_paylod` is not a setting; did you mean `mqtt.max_payload`?",
        ),
        ("[mqqt]\n", "evenkeel.toml:1: `mqqt` is not a setting; did you mean `mqtt`?"),
        (
            "[devices]\nmax_payload = 1\n",
            "evenkeel.toml:2: `devices.max_payload` is not a setting; did you mean `mqtt.max_payload`?",
        ),
        ("\n\nxyzzyxyzzyxyzzy = 1\n", "evenkeel.toml:3: `xyzzyxyzzyxyzzy` is not a setting"),
    ] {
        assert_eq!(complaint(text), said);
    }
    let env = vec![("EVENKEEL_MQTT_LISTN".to_owned(), "x".to_owned())];
    let errors = Config::load(&Sources { env, ..Sources::default() }).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "environment: `EVENKEEL_MQTT_LISTN` is not a setting; did you mean `EVENKEEL_MQTT_LISTEN`?"
    );
}

#[test]
fn bad_values_are_errors_that_say_what_they_must_be() {
    for (text, said) in [
        ("[call]\nidle_limit = 10\n", "evenkeel.toml:2: `call.idle_limit` must be a duration with its unit"),
        (
            "[mqtt]\nmax_payload = -1\n",
            "evenkeel.toml:2: `mqtt.max_payload` must be a whole number from 0 to",
        ),
        ("[mqtt]\nlisten = \"1883\"\n", "evenkeel.toml:2: `mqtt.listen` must be a list in brackets"),
        (
            "[mqtt]\nlisten = [\"1883\"]\n",
            "evenkeel.toml:2: `mqtt.listen` each must be an address with a port",
        ),
        (
            "[room]\nkind = \"eco\"\n",
            "evenkeel.toml:2: `room.kind` must be one of \"echo\", \"websocket\", \"livekit\"",
        ),
        ("[room]\nkind = {}\n", "evenkeel.toml:2: `room.kind` must be a string"),
        ("[mqtt\n", "evenkeel.toml:1: "),
    ] {
        let complaint = complaint(text);
        assert!(complaint.starts_with(said), "{complaint}");
    }
    let errors = file("[mqtt]\na = 1\nb = 2\n[room]\nkind = 3\n").unwrap_err();
    assert_eq!(errors.len(), 3, "all at once");
}

#[test]
fn the_old_gateways_environment_works_and_ours_wins() {
    let env = [
        ("PUBLIC_IP", "203.0.113.1"),
        ("MQTT_PORT", "2883"),
        ("UDP_PORT", "9000"),
        ("API_PORT", "9007"),
        ("MQTT_SIGNATURE_KEY", "key"),
        ("SERVER_SECRET", "secret"),
        ("EVENKEEL_MEDIA_UDP_PORT", "9100"),
        ("PATH", "/bin"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let config = Config::load(&Sources { env, ..Sources::default() }).unwrap();
    assert_eq!(config.media.public_address, "203.0.113.1");
    assert_eq!(config.mqtt.listen, ["0.0.0.0:2883".parse().unwrap()]);
    assert_eq!(config.media.udp_port, 9100);
    assert_eq!(config.management.listen, ["0.0.0.0:9007".parse().unwrap()]);
    assert_eq!(config.devices.signature_key.expose(), Some("key"));
    assert_eq!(config.websocket.secret.expose(), Some("secret"));
    assert!(!config.to_toml().contains("\"key\"") && !config.to_toml().contains("\"secret\""));
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let mut running = Config::default();
    let newer =
        file("[devices]\nsignature_key = \"k\"\n[log]\nlevel = \"debug\"\n[media]\nlanes = 3\n").unwrap();
    let reload = running.reload(&newer);
    assert_eq!(reload.changed, ["devices.signature_key", "log.level"]);
    assert_eq!(reload.pending, ["media.lanes"]);
    assert_eq!(running.devices.signature_key.expose(), Some("k"));
    assert_eq!(running.media.lanes, 0);
    let reloaded: Vec<_> = FIELDS.iter().filter(|field| field.reloads).map(|field| field.path).collect();
    assert_eq!(
        reloaded,
        ["devices.signature_key", "operations.token", "log.level"],
        "reload() takes over all"
    );
}

#[test]
fn what_does_not_go_together_is_told_with_where_it_was_set() {
    let text = "[room]\nkind = \"websocket\"\n\n[websocket]\n# none yet\nservers = []\n";
    let mut sources = Sources { file: Some(("evenkeel.toml".into(), text.into())), ..Sources::default() };
    let complaint =
        |sources: &Sources| Config::load(sources).unwrap().check().unwrap_err().located(sources).to_string();
    assert_eq!(complaint(&sources), "evenkeel.toml:6: `websocket.servers` needs at least one address");
    sources.env.push(("EVENKEEL_WEBSOCKET_SERVERS".into(), "http://x".into()));
    assert!(complaint(&sources).starts_with("EVENKEEL_WEBSOCKET_SERVERS: `websocket.servers` must be ws://"));
    sources.flags.push(("websocket.servers".into(), String::new()));
    assert!(complaint(&sources).starts_with("--set websocket.servers: "));
    // What was not set at all was set nowhere.
    let nowhere = Sources { flags: vec![("room.kind".into(), "websocket".into())], ..Sources::default() };
    assert_eq!(complaint(&nowhere), "settings: `websocket.servers` needs at least one address");

    for (text, said) in [
        ("[media]\nudp_address = \"here\"\n", "f:2: `media.udp_address` must be an IP address, not \"here\""),
        (
            "[mqtt]\ntls_listen = [\"1.1.1.1:1\"]\ntls_certificate = \"/no\"\ntls_key = \"/no\"\n",
            "f:3: `mqtt.tls_certificate` and its key cannot be used: /no: ",
        ),
        (
            "[web]\ntls_listen = [\"1.1.1.1:1\"]\ntls_key = \"/dev/null\"\ntls_certificate = \"/dev/null\"\n",
            "f:4: `web.tls_certificate` and its key cannot be used: /dev/null",
        ),
    ] {
        let sources = Sources { file: Some(("f".into(), text.into())), ..Sources::default() };
        assert!(complaint(&sources).starts_with(said), "{}", complaint(&sources));
    }
}

#[test]
fn a_port_of_the_old_gateway_that_is_none_is_told_as_what_it_was() {
    for (variable, path) in
        [("MQTT_PORT", "mqtt.listen"), ("UDP_PORT", "media.udp_port"), ("API_PORT", "management.listen")]
    {
        for value in ["", "x", "-1", "65536", "0.0.0.0:1883"] {
            let env = vec![(variable.to_owned(), value.to_owned())];
            let errors = Config::load(&Sources { env, ..Sources::default() }).unwrap_err();
            let expected = format!("{variable}: `{path}` must be a port, a whole number from 0 to 65535");
            assert_eq!(errors[0].to_string(), expected, "{value}");
        }
    }
}

#[test]
fn values_with_which_nobody_would_be_served_are_refused_by_name() {
    for (setting, said) in [
        ("media.lanes=65", "must be at most 64"),
        ("media.lanes=99999999999", "must be at most 64"),
        ("devices.max_depth=3", "must be at least 4"),
        ("mqtt.max_payload=100", "must be at least 1024"),
        ("web.max_payload=0", "must be at least 1024"),
        ("devices.hello_burst=0", "must be at least 1"),
        ("devices.message_burst=0", "must be at least 1"),
        ("devices.hello_rate=0", "must be more than 0"),
        ("devices.network_hello_rate=0.0", "must be more than 0"),
        ("mqtt.max_connections=0", "must be at least 1"),
        ("mqtt.max_half_open=0", "must be at least 1"),
        ("mqtt.connect_limit=0s", "must be more than 0s"),
        ("call.idle_limit=0min", "must be more than 0s"),
        ("log.level=verbose", "must be error, warn, info, debug or trace"),
        ("log.level=info,evenkeel_gateway::call=loud", "must be error, warn, info, debug or trace"),
        ("log.level=", "must be error, warn, info, debug or trace"),
    ] {
        let (name, value) = setting.split_once('=').unwrap();
        let sources = Sources { flags: vec![(name.to_owned(), value.to_owned())], ..Sources::default() };
        let error = Config::load(&sources).unwrap().check().unwrap_err().located(&sources).to_string();
        assert!(error.starts_with(&format!("--set {name}: `{name}` {said}")), "{error}");
    }
    let text = "[media]\nlanes = 8\nudp_port = 65530\n";
    let sources = Sources { file: Some(("f".into(), text.into())), ..Sources::default() };
    let error = Config::load(&sources).unwrap().check().unwrap_err().located(&sources).to_string();
    assert!(error.starts_with("f:3: `media.udp_port` and the 8 of media.lanes go beyond"), "{error}");
    for good in ["info", "WARN", "off", "info,evenkeel_gateway::call=debug", "evenkeel=trace, hyper=off"] {
        let flags = vec![("log.level".to_owned(), good.to_owned())];
        assert_eq!(Config::load(&Sources { flags, ..Sources::default() }).unwrap().check(), Ok(()), "{good}");
    }
}

#[test]
fn what_is_no_section_or_no_value_is_told_as_what_it_is() {
    for (text, said) in [
        ("[[mqtt]]\nlisten = []\n", "evenkeel.toml:1: `mqtt` must be a section: [mqtt]"),
        ("mqtt = 3\n", "evenkeel.toml:1: `mqtt` must be a section: [mqtt]"),
        ("[media.sub]\nx = 1\n", "evenkeel.toml:1: `media.sub` is not a setting"),
        ("[media.lanes]\nx = 1\n", "evenkeel.toml:1: `media.lanes` must be a string, a number"),
        ("listen = []\n", "evenkeel.toml:1: `listen` is not a setting; did you mean `mqtt.listen`?"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.starts_with(said), "{complaint}");
    }
}
