use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse(value: &Value) -> Result<Incoming, MessageError> {
    Incoming::parse(value.to_string().as_bytes(), Limits::default())
}

fn hello() -> Value {
    json!({
        "type": "hello", "version": 3, "transport": "udp",
        "features": {"mcp": true, "aec": true, "glyph_push": false, "sealed": ["aes-256-gcm", "rot13"]},
        "text_font": {"bundle": "b", "charset": "c", "size": 14, "bpp": 1},
        "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
    })
}

#[test]
fn the_firmware_hello_is_read() {
    let Message::Hello(hello) = parse(&hello()).unwrap().message else { panic!("no hello") };
    assert!(hello.mcp && hello.aec);
    assert_eq!(hello.sealed, [Encryption::Aes256Gcm]);
    assert_eq!(hello.audio, AudioParams::UPLINK);
    assert_eq!(hello.features.unwrap()["sealed"][1], "rot13");
}

#[test]
fn the_shortest_hello_is_read() {
    let Message::Hello(hello) = parse(&json!({"type": "hello", "version": 3})).unwrap().message else {
        panic!("no hello")
    };
    assert!(!hello.mcp && hello.sealed.is_empty());
    assert_eq!(hello.audio, AudioParams::UPLINK);
}

/// Every field of every known type, once with each JSON type that it must not have.
#[test]
fn a_wrong_type_in_any_field_is_an_error_that_names_it() {
    let listen =
        json!({"type": "listen", "session_id": "s", "state": "detect", "mode": "auto", "text": "hi"});
    let abort = json!({"type": "abort", "session_id": "s", "reason": "r"});
    let mcp = json!({"type": "mcp", "session_id": "s", "payload": {"jsonrpc": "2.0"}});
    let goodbye = json!({"type": "goodbye", "session_id": "s"});
    let hello_fields = [
        "/type",
        "/version",
        "/transport",
        "/features",
        "/features/mcp",
        "/features/aec",
        "/features/glyph_push",
        "/features/sealed",
        "/features/sealed/0",
        "/text_font",
        "/text_font/bundle",
        "/text_font/charset",
        "/text_font/size",
        "/text_font/bpp",
        "/audio_params",
        "/audio_params/format",
        "/audio_params/sample_rate",
        "/audio_params/channels",
        "/audio_params/frame_duration",
    ];
    let cases: [(&Value, &[&str]); 5] = [
        (&hello(), &hello_fields),
        (&listen, &["/type", "/session_id", "/state", "/mode", "/text"]),
        (&abort, &["/type", "/session_id", "/reason"]),
        (&mcp, &["/type", "/session_id", "/payload"]),
        (&goodbye, &["/type", "/session_id"]),
    ];
    let wrong = [json!(true), json!(7), json!("text"), json!([]), json!({})];
    let mut tried = 0;
    for (message, fields) in cases {
        assert!(parse(message).is_ok());
        for pointer in fields {
            for value in &wrong {
                let mut bad = message.clone();
                let slot = bad.pointer_mut(pointer).unwrap();
                if std::mem::discriminant(slot) == std::mem::discriminant(value) {
                    continue;
                }
                *slot = value.clone();
                let name = pointer[1..].replace('/', ".").replace(".0", "");
                match parse(&bad) {
                    Err(MessageError::Field { field, .. }) => assert_eq!(field, name, "{bad}"),
                    other => panic!("{bad} gave {other:?}"),
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 32 * 4);
}

#[test]
fn values_out_of_range_are_errors_that_name_the_field() {
    for (pointer, value, name) in [
        ("/version", json!(2), "version"),
        ("/version", json!(1e300), "version"),
        ("/transport", json!("pigeon"), "transport"),
        ("/audio_params/format", json!("pcm"), "audio_params.format"),
        ("/audio_params/sample_rate", json!(44100), "audio_params.sample_rate"),
        ("/audio_params/sample_rate", json!(-16000), "audio_params.sample_rate"),
        ("/audio_params/sample_rate", json!(16000.5), "audio_params.sample_rate"),
        ("/audio_params/channels", json!(2), "audio_params.channels"),
        ("/audio_params/frame_duration", json!(30), "audio_params.frame_duration"),
    ] {
        let mut bad = hello();
        *bad.pointer_mut(pointer).unwrap() = value;
        match parse(&bad) {
            Err(MessageError::Value { field, .. }) => assert_eq!(field, name),
            other => panic!("{bad} gave {other:?}"),
        }
    }
}

#[test]
fn missing_fields_are_named_and_null_is_absent() {
    for (message, field) in [
        (json!({}), "type"),
        (json!({"type": null}), "type"),
        (json!({"type": "hello"}), "version"),
        (json!({"type": "listen"}), "state"),
        (json!({"type": "mcp"}), "payload"),
    ] {
        assert_eq!(parse(&message), Err(MessageError::Missing { field }));
    }
    assert_eq!(parse(&json!({"type": "goodbye", "session_id": null})).unwrap().session_id, None);
    assert_eq!(parse(&json!({"type": "goodbye", "session_id": ""})).unwrap().session_id, None);
}

#[test]
fn unknown_types_are_kept_untouched() {
    let text = r#"{"type":"character-change", "x":1.0,"session_id":"s"}"#;
    let incoming = Incoming::parse(text.as_bytes(), Limits::default()).unwrap();
    assert_eq!(incoming.message, Message::Other { kind: "character-change".into() });
    assert_eq!(incoming.envelope.text(), text);
    assert_eq!(incoming.session_id.as_deref(), Some("s"));
}

#[test]
fn what_is_not_an_object_is_refused() {
    assert_eq!(parse(&json!([1])), Err(MessageError::NotAnObject));
    assert_eq!(
        Incoming::parse(b"{\"type\":", Limits::default()),
        Err(MessageError::Json { line: 1, column: 8 })
    );
    assert!(Incoming::parse(b"", Limits::default()).is_err());
    let deep = format!("{{\"type\":\"mcp\",\"payload\":{}", "{\"a\":".repeat(1000));
    assert_eq!(Incoming::parse(deep.as_bytes(), Limits::default()), Err(MessageError::TooDeep { limit: 16 }));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Incoming::parse(&bytes, Limits::default());
    }
}
