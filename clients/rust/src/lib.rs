//! Client core.
