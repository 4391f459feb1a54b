//! A browser that sends anything: a request, a refusal, or the wish for more, and never too much of it.
#![no_main]

use cache_server::serve::http::request::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Parsed, field, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| match parse(data) {
    Ok(Parsed::Whole(request, bytes)) => {
        assert!(bytes > 0 && bytes <= data.len());
        for form in [request.query.as_bytes(), request.body] {
            // A byte of a form is a byte of a value at most.
            assert!(field(form, "key").ok().flatten().is_none_or(|value| value.len() <= form.len()));
        }
    }
    Ok(Parsed::Partial { needed, .. }) => assert!(needed > data.len() && needed <= HEAD_BYTES_MAX + BODY_BYTES_MAX),
    Err(_) => {}
});
