//! The header before every Kafka request, versions 1 and 2.
//! Owner: nobody; it borrows the frame.
//! Invariant: of an API or version that is not served only the fixed part and the client id are read.
//! Not here: the answer to what is not served (`doors`).

use super::api::{API_VERSIONS, Api};
use super::primitives::{DecodeError, Reader};

/// Header of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// API.
    pub key: i16,
    /// Version of the API.
    pub version: i16,
    /// Echoed in the response.
    pub correlation: i32,
    /// Any bytes; `None` = null.
    pub client_id: Option<&'a [u8]>,
    /// The row of the API table, when this key and version are served.
    pub api: Option<&'static Api>,
    /// Where in the frame the body begins.
    pub body_at: usize,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of `frame` (the bytes behind the size field).
    ///
    /// # Errors
    /// [`DecodeError`]: the connection is to be closed.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<RequestHeader<'a>, DecodeError> {
        let mut reader = Reader::new(frame, 0);
        let key = reader.i16()?;
        let version = reader.i16()?;
        let correlation = reader.i32()?;
        // Never compact, so that a broker can read it whatever the version is.
        let client_id = reader.raw_string(false)?;
        let api = Api::of(key).filter(|api| api.serves(version));
        reader.skip_tags(api.is_some_and(|api| api.is_flexible(version)))?;
        let body_at = reader.at();
        Ok(RequestHeader { key, version, correlation, client_id, api, body_at })
    }

    /// Whether body and response body have compact fields and tags.
    #[inline]
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.api.is_some_and(|api| api.is_flexible(self.version))
    }

    /// Whether this is an ApiVersions request of a version from the future, which gets an answer (V4).
    #[must_use]
    pub fn is_unknown_api_versions(&self) -> bool {
        self.key == API_VERSIONS && self.api.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::APIS;
    use kafka_protocol::messages::RequestHeader as Theirs;
    use kafka_protocol::protocol::{Encodable, StrBytes};

    #[test]
    fn headers_of_every_api_and_version_are_read() {
        for api in APIS {
            for version in api.min..=api.max {
                let header_version = if api.is_flexible(version) { 2 } else { 1 };
                let theirs = Theirs::default()
                    .with_request_api_key(api.key)
                    .with_request_api_version(version)
                    .with_correlation_id(-77)
                    .with_client_id(Some(StrBytes::from_static_str("rdkafka")));
                let mut frame = bytes::BytesMut::new();
                theirs.encode(&mut frame, header_version).unwrap();
                let len = frame.len();
                let ours = RequestHeader::parse(&frame).unwrap();
                assert_eq!((ours.key, ours.version, ours.correlation), (api.key, version, -77));
                assert_eq!(ours.client_id, Some(&b"rdkafka"[..]));
                assert_eq!((ours.api, ours.body_at), (Some(api), len));
                assert_eq!(ours.is_flexible(), header_version == 2);
                for cut in 0..len {
                    assert!(RequestHeader::parse(&frame[..cut]).is_err(), "cut {cut}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_served_is_recognised() {
        let future = RequestHeader::parse(&[0, 18, 0, 99, 0, 0, 0, 5, 0xFF, 0xFF]).unwrap();
        assert!(future.is_unknown_api_versions());
        assert_eq!((future.correlation, future.client_id), (5, None));
        let old = RequestHeader::parse(&[0, 0, 0, 2, 0, 0, 0, 5, 0xFF, 0xFF]).unwrap();
        assert_eq!(old.api, None);
        assert!(!old.is_unknown_api_versions());
    }
}
