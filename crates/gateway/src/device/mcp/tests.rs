use super::*;

const T0: Time = Time::ZERO;

fn answer(mcp: &mut DeviceMcp, request: &Payload, result: Value) {
    let payload = object(json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
    assert!(mcp.handle_device(&payload, T0));
}

fn initialized() -> DeviceMcp {
    let mut mcp = DeviceMcp::new(McpConfig { max_tools: 5, ..McpConfig::default() });
    mcp.handle_session(T0);
    let request = mcp.poll_request().unwrap();
    assert_eq!((&request["method"], &request["id"]), (&json!("initialize"), &json!(10_000)));
    answer(&mut mcp, &request, json!({"serverInfo": {"name": "board"}}));
    assert_eq!(mcp.poll_request().unwrap()["method"], "notifications/initialized");
    mcp
}

fn tools(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"name": name})).collect()
}

#[test]
fn pages_are_gathered_and_the_room_is_answered_from_them() {
    let mut mcp = initialized();
    let room_asks = object(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}));
    assert!(mcp.handle_room(&room_asks), "held until the cache is there");
    let first = mcp.poll_request().unwrap();
    answer(&mut mcp, &first, json!({"tools": tools(&["a", "b"]), "nextCursor": "c"}));
    let second = mcp.poll_request().unwrap();
    assert_eq!(second["params"]["cursor"], "c");
    assert!(mcp.poll_room().is_none());
    answer(&mut mcp, &second, json!({"tools": tools(&["c"])}));
    assert_eq!(mcp.tools().unwrap(), tools(&["a", "b", "c"]));
    let told = mcp.poll_room().unwrap();
    assert_eq!((&told["id"], &told["result"]["tools"]), (&json!(2), &json!(tools(&["a", "b", "c"]))));
    assert!(mcp.handle_room(&object(json!({"id": "x", "method": "initialize"}))));
    assert_eq!(mcp.poll_room().unwrap()["result"]["serverInfo"]["name"], "board");
    assert!(mcp.handle_room(&object(json!({"method": "notifications/initialized"}))));
    assert!(mcp.poll_room().is_none());
    assert!(!mcp.handle_room(&object(json!({"id": 3, "method": "tools/call"}))));
    assert!(mcp.is_quiet());
}

#[test]
fn a_device_that_pages_for_ever_or_floods_is_bounded() {
    let mut mcp = initialized();
    let mut pages = 0;
    while let Some(request) = mcp.poll_request() {
        answer(&mut mcp, &request, json!({"tools": tools(&["a"]), "nextCursor": "again"}));
        pages += 1;
    }
    assert_eq!((pages, mcp.tools().unwrap().len()), (6, 5));
    let mut mcp = initialized();
    let request = mcp.poll_request().unwrap();
    answer(&mut mcp, &request, json!({"tools": tools(&["a"; 100]), "nextCursor": "again"}));
    assert_eq!(mcp.tools().unwrap().len(), 5);
}

#[test]
fn a_silent_device_is_given_up_and_the_room_asks_it_itself() {
    let mut mcp = initialized();
    let room_asks = object(json!({"id": 2, "method": "tools/list"}));
    assert!(mcp.handle_room(&room_asks));
    let ours = mcp.poll_request().unwrap();
    let until = mcp.poll_timeout().unwrap();
    assert_eq!(until, Time::from_millis(10_000));
    mcp.handle_timeout(until);
    assert_eq!(mcp.poll_request(), Some(room_asks.clone()));
    assert!(!mcp.handle_room(&room_asks));
    assert!(mcp.handle_device(&object(json!({"id": ours["id"], "result": {}})), until), "late, but ours");
    assert!(!mcp.handle_device(&object(json!({"id": 2, "result": {}})), until), "the room's");
    assert!(mcp.is_quiet() && mcp.poll_timeout().is_none());
}

#[test]
fn garbage_answers_fail_the_conversation_only() {
    for result in [json!(null), json!([1]), json!({"tools": 3}), json!("x")] {
        let mut mcp = initialized();
        let request = mcp.poll_request().unwrap();
        answer(&mut mcp, &request, result);
        assert!(mcp.tools().is_none() && mcp.poll_request().is_none());
    }
}

#[test]
fn operators_get_results_errors_and_timeouts() {
    let mut mcp = DeviceMcp::new(McpConfig::default());
    let second = Duration::from_secs(1);
    for token in 0..17 {
        mcp.handle_command(Token(token), "tools/call", Some(json!({})), second, T0);
    }
    assert_eq!(mcp.poll_result(), Some((Token(16), Err(McpError::Busy))));
    let request = mcp.poll_request().unwrap();
    answer(&mut mcp, &request, json!({"ok": 1}));
    assert_eq!(mcp.poll_result(), Some((Token(0), Ok(json!({"ok": 1})))));
    let request = mcp.poll_request().unwrap();
    let refusal = object(json!({"id": request["id"], "error": {"code": -1, "message": "no such tool"}}));
    assert!(mcp.handle_device(&refusal, T0));
    let refused = McpError::Refused { message: "no such tool".into() };
    assert_eq!(mcp.poll_result(), Some((Token(1), Err(refused))));
    mcp.handle_timeout(T0 + second);
    assert_eq!(mcp.poll_result(), Some((Token(2), Err(McpError::Timeout))));
    mcp.handle_command(Token(99), "x", None, second, T0);
    mcp.handle_gone();
    assert_eq!(std::iter::from_fn(|| mcp.poll_result()).last(), Some((Token(99), Err(McpError::Gone))));
}
