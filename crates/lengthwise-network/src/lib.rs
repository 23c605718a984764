//! The links of a cluster: what crosses which of them, and how they are shared.
//!
//! ```text
//! node 0   rank 0 --+            +-- rank 4   node 1
//!          rank 1 --+-- switch   |   ...
//!          rank 2 --+     |      |
//!          rank 3 --+    NIC ---- NIC
//! ```
//!
//! [`Wiring`] says what an exchange or a gather of some ranks sends over which link; [`Network`] gives everything that
//! is under way its fair share of every link; [`Traffic`] says when it ends. All three are pure: time is an argument.
//!
//! # What a fair share is
//!
//! Equal bytes a second over a link for all transfers that cross it; what one can't use, because another link holds it
//! back, goes to the others. So a small transfer does not wait for a large one. It is what TCP and InfiniBand come near
//! to among connections, which are taken to be max-min fair (Bertsekas and Gallager, Data Networks, 6.5.2). A collective
//! counts as one connection, a gather as much as an exchange: how many its library opens differs between libraries.
//!
//! ```
//! use lengthwise_core::{Bytes, Cluster, Device, Rank, Seconds, Speed};
//! use lengthwise_cost::{ClusterLinks, Link};
//! use lengthwise_network::{Traffic, Wiring};
//!
//! let cluster = Cluster::uniform(2, 2, Device::new(Bytes::from_mib(64), Speed::NOMINAL))?;
//! let links = ClusterLinks {
//!     device: Link::new(100.0, Seconds::ZERO)?,
//!     nics_per_node: 1,
//!     nic: Link::new(10.0, Seconds::ZERO)?,
//! };
//! let mut traffic = Traffic::new();
//! let wiring = Wiring::new(&cluster, links, traffic.network_mut());
//! // Ranks 0 and 2 are on different nodes: half of what each shares out leaves its node.
//! let crossing = wiring.exchange(&[Rank(0), Rank(2)], &cluster);
//! let path = crossing.path(traffic.network_mut());
//! traffic.begin(1.0, path, 40.0, "exchange");
//! assert_eq!(traffic.advance(10.0), [("exchange", 3.0)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod network;
mod place;
mod traffic;
mod wiring;

pub use network::{FlowEnd, FlowSpec, LinkId, Network, RouteId};
pub use place::LinkPlace;
pub use traffic::Traffic;
pub use wiring::{Crossing, Path, Wiring};
