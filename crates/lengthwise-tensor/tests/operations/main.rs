//! Every operation against a naive `f64` implementation, every backward against finite differences of it, on
//! random shapes down to no rows at all.

mod adamw;
mod arrange;
mod attention;
mod cross_entropy;
mod decoder_parts;
mod linear;
mod reference;
