//! The Internet checksum (RFC 1071) and its pseudo headers (RFC 9293 §3.1, RFC 8200 §8.1).
