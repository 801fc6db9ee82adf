//! Real traffic: servers that tell whom they saw, clients, and a measured transfer.

mod advertiser;
mod http;
mod listener;
mod throughput;
mod udp;

pub use advertiser::Advertiser;
pub use http::{HttpAnswer, HttpServer, http_get};
pub use throughput::{Measure, Sink, assert_rate, throughput};
pub use udp::{UdpAnswer, UdpClient, UdpServer};
