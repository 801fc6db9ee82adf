//! The token bucket filter: linux/net/sched/sch_tbf.c, linux/pkt_sched.h.

use std::fmt;

use netlink_packet_core::{DefaultNla, Nla, NlasIterator};
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcOption};

pub(super) const KIND: &str = "tbf";

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_TBF_PBURST: u16 = 7;

/// The peak rate where there is one, in bytes per second (10 Gbit/s).
const PEAK_RATE: u32 = 1_250_000_000;

/// `TC_LINKLAYER_ETHERNET`: the kernel computes how long a packet takes, and needs no table of it (since Linux 3.8).
const LINKLAYER_ETHERNET: u8 = 1;
/// The length of `struct tc_ratespec`, and where its rate is.
const RATESPEC_LEN: usize = 12;
const RATE_AT: usize = 8;
/// The length of `struct tc_tbf_qopt`: two rates, then limit, buffer and mtu.
const QOPT_LEN: usize = 2 * RATESPEC_LEN + 12;
/// The kernel's unit of time in qdiscs is 64 ns.
const TICK_SHIFT: u32 = 6;

/// A token bucket: what may pass at once, how fast it is refilled, and how much may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes per second.
    pub rate_bytes: u64,
    /// The bucket in bytes. Packets larger than it are dropped, or segmented where they are the kernel's (GSO).
    pub burst_bytes: u32,
    /// The queue in bytes; a packet that does not fit is dropped.
    pub queue_bytes: u32,
    /// The largest packet in bytes, where it is to be smaller than the bucket. It takes the form of the bucket of a peak
    /// rate, which is as high as to limit nothing.
    pub packet_bytes: Option<u32>,
}

impl Tbf {
    /// The bucket in the kernel's unit of time: how long it takes to fill. The kernel keeps nothing else of it.
    pub fn burst_ticks(&self) -> u32 {
        let nanoseconds =
            u128::from(self.burst_bytes) * 1_000_000_000 / u128::from(self.rate_bytes.max(1));
        u32::try_from(nanoseconds >> TICK_SHIFT).unwrap_or(u32::MAX)
    }

    /// Whether a qdisc that was read back is this one: the bucket was rounded on the way.
    pub fn is_about(&self, other: &Self) -> bool {
        let (a, b) = (self.burst_ticks(), other.burst_ticks());
        self.rate_bytes == other.rate_bytes
            && self.queue_bytes == other.queue_bytes
            && a.abs_diff(b) <= 4 + a / 1000
    }

    pub(super) fn options(&self) -> Vec<TcOption> {
        let mut parms = [0; QOPT_LEN];
        parms[1] = LINKLAYER_ETHERNET;
        // A rate that does not fit is given as all ones here, and in full by RATE64.
        let rate = u32::try_from(self.rate_bytes).unwrap_or(u32::MAX);
        parms[RATE_AT..][..4].copy_from_slice(&rate.to_ne_bytes());
        parms[2 * RATESPEC_LEN..][..4].copy_from_slice(&self.queue_bytes.to_ne_bytes());
        parms[2 * RATESPEC_LEN + 4..][..4].copy_from_slice(&self.burst_ticks().to_ne_bytes());
        let mut options = vec![
            DefaultNla::new(TCA_TBF_PARMS, parms.to_vec()),
            DefaultNla::new(TCA_TBF_BURST, self.burst_bytes.to_ne_bytes().to_vec()),
        ];
        if let Some(packet) = self.packet_bytes {
            parms[RATESPEC_LEN + 1] = LINKLAYER_ETHERNET;
            parms[RATESPEC_LEN + RATE_AT..][..4].copy_from_slice(&PEAK_RATE.to_ne_bytes());
            let ticks = ticks(packet, PEAK_RATE.into());
            parms[2 * RATESPEC_LEN + 8..][..4].copy_from_slice(&ticks.to_ne_bytes());
            options[0] = DefaultNla::new(TCA_TBF_PARMS, parms.to_vec());
            options.push(DefaultNla::new(TCA_TBF_PBURST, packet.to_ne_bytes().to_vec()));
        }
        if self.rate_bytes > u64::from(u32::MAX) {
            options.push(DefaultNla::new(TCA_TBF_RATE64, self.rate_bytes.to_ne_bytes().to_vec()));
        }
        options.into_iter().map(TcOption::Other).collect()
    }

    pub(super) fn from_message(message: &TcMessage) -> Option<Self> {
        let is_tbf =
            message.attributes.iter().any(|a| matches!(a, TcAttribute::Kind(k) if k == KIND));
        let options = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => options.iter().find_map(|option| match option {
                TcOption::Other(nla) => Some(value(nla)),
                _ => None,
            }),
            _ => None,
        })?;
        if !is_tbf {
            return None;
        }
        let mut parms = None;
        let mut rate64 = None;
        for nla in NlasIterator::new(options.as_slice()).flatten() {
            match nla.kind() {
                TCA_TBF_PARMS => parms = <[u8; QOPT_LEN]>::try_from(nla.value()).ok(),
                TCA_TBF_RATE64 => rate64 = <[u8; 8]>::try_from(nla.value()).ok(),
                _ => {}
            }
        }
        let parms = parms?;
        let at = |offset: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| parms[offset + i]));
        let rate_bytes = rate64.map_or_else(|| u64::from(at(RATE_AT)), u64::from_ne_bytes);
        let peak = at(RATESPEC_LEN + RATE_AT);
        Some(Self {
            rate_bytes,
            burst_bytes: bytes(at(2 * RATESPEC_LEN + 4), rate_bytes),
            queue_bytes: at(2 * RATESPEC_LEN),
            packet_bytes: (peak > 0).then(|| bytes(at(2 * RATESPEC_LEN + 8), peak.into())),
        })
    }
}

impl fmt::Display for Tbf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bit/s (burst {} bytes, queue {} bytes)",
            self.rate_bytes.saturating_mul(8),
            self.burst_bytes,
            self.queue_bytes
        )
    }
}

/// How long these bytes take, in the kernel's unit.
fn ticks(bytes: u32, rate_bytes: u64) -> u32 {
    let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate_bytes.max(1));
    u32::try_from(nanoseconds >> TICK_SHIFT).unwrap_or(u32::MAX)
}

/// What passes in this time.
fn bytes(ticks: u32, rate_bytes: u64) -> u32 {
    let bytes = (u128::from(ticks) << TICK_SHIFT) * u128::from(rate_bytes) / 1_000_000_000;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn value(nla: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    bytes
}
