#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| evenkeel_gateway::fuzz::run("gateway_chat_server_stream", data));
