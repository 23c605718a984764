//! Collectives of thread ranks on the CPU backend, against a model that has no threads.

mod failure;
mod fixture;
mod groups;
mod matrix;
mod memory;
mod mismatch;
mod model;
mod prefetch;
mod properties;
mod script;
mod statistics;
mod stress;
mod waits;
