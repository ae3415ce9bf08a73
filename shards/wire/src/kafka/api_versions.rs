//! The ApiVersions response, by hand: no default-valued tagged field may ever be in it.
//! Owner: nobody; writes into the caller's buffer.
//! Invariant: the list is the API table; the tag sections are empty (V3).
//! Not here: the software name and version that clients send (`doors`).

use super::api::{API_VERSIONS, APIS};
use super::primitives::{put_count, put_no_tags};
use super::response_frame::ResponseFrame;
use crate::error_code::ErrorCode;

/// Appends a whole response frame for a served `version`.
pub fn put_api_versions(out: &mut Vec<u8>, version: i16, correlation: i32, code: ErrorCode) {
    let flexible = version >= 3;
    let frame = ResponseFrame::begin(out, API_VERSIONS, version, correlation);
    out.extend_from_slice(&code.code().to_be_bytes());
    put_count(out, flexible, APIS.len());
    for api in APIS {
        out.extend_from_slice(&api.key.to_be_bytes());
        out.extend_from_slice(&api.min_advertised.to_be_bytes());
        out.extend_from_slice(&api.max.to_be_bytes());
        put_no_tags(out, flexible);
    }
    if version >= 1 {
        out.extend_from_slice(&0i32.to_be_bytes());
    }
    put_no_tags(out, flexible);
    frame.end(out, 0);
}

/// Appends the answer to a version that is not served: version 0's body with error 35, so that any client
/// can read it and ask again (V4).
pub fn put_unsupported_api_versions(out: &mut Vec<u8>, correlation: i32) {
    put_api_versions(out, 0, correlation, ErrorCode::UnsupportedVersion);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::PRODUCE;
    use kafka_protocol::messages::ApiVersionsResponse;
    use kafka_protocol::protocol::Decodable;

    #[test]
    fn every_version_is_read_by_another_decoder() {
        for version in 0..=4 {
            let mut out = Vec::new();
            put_api_versions(&mut out, version, 9, ErrorCode::None);
            assert_eq!(out[..4], u32::try_from(out.len() - 4).unwrap().to_be_bytes());
            assert_eq!(out[4..8], 9i32.to_be_bytes());
            let mut body = bytes::Bytes::from(out).slice(8..);
            let read = ApiVersionsResponse::decode(&mut body, version).unwrap();
            assert!(body.is_empty());
            assert_eq!(read.error_code, 0);
            assert_eq!(read.api_keys.len(), APIS.len());
            let produce = read.api_keys.iter().find(|key| key.api_key == PRODUCE).unwrap();
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
            assert!(read.unknown_tagged_fields.is_empty() && read.supported_features.is_empty());
        }
    }

    #[test]
    fn golden_frames() {
        let hex = |out: &[u8]| out.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut out = Vec::new();
        put_unsupported_api_versions(&mut out, 3);
        assert!(hex(&out).starts_with("0000006a0000000300230000001000000000000d"), "{}", hex(&out));
        out.clear();
        put_api_versions(&mut out, 3, 3, ErrorCode::None);
        // 16 keys as compact count 17, each with an empty tag section; throttle time and tags at the end.
        assert!(hex(&out).starts_with("0000007c0000000300001100000000000d00"), "{}", hex(&out));
        assert!(hex(&out).ends_with("002000010004000000000000"), "{}", hex(&out));
    }
}
