//! Replies leave in the order of the requests (W1).
