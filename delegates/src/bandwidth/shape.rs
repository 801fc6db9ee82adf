//! From a limit to a token bucket.
//!
//! | | |
//! |---|---|
//! | burst, asked for | as asked, up to what the rate carries in a second |
//! | burst, longer than that | none was meant (the kubelet passes 2^31 − 1 bit where a pod names none: the first 256 MB unshaped), and the default is taken |
//! | burst, default | what the rate carries in 25 ms: enough for a sender that has to wait for its turn on the processor |
//! | burst, at least | two frames (a smaller bucket lets nothing pass), and what the rate carries in 1 ms (a smaller one loses tokens to the timer) |
//! | latency, default | as long as 40 kB take, but 10 ms at least and 40 ms at most |
//! | queue | what the rate carries within `latency`, at least twelve frames (four where `latency` is configured) |
//! | from 10 Mbit/s | and room for one packet of the kernel's (64 KiB, GSO) or of the burst, whichever is smaller, since a packet that does not fit is lost whole |
//! | below 10 Mbit/s | that room would be half a second: instead, packets of the kernel's are segmented, by a peak rate that is no limit |
//!
//! The reference's queue is 25 ms *and the whole burst*: after a burst of a second packets wait for a second, and a
//! queue that long, or one that loses packets of 64 KiB, stalls TCP at low rates (measured: 0.5 of 3 Mbit/s at times).

use std::time::Duration;

use super::config::Limit;
use crate::net::tc::Tbf;

/// An Ethernet header with a VLAN tag, in bytes: what a frame has beyond the MTU.
const FRAME_HEADER: u64 = 18;
/// The largest packet that the kernel passes down unsegmented (GSO), in bytes.
const GSO_MAX: u64 = 65_536 + FRAME_HEADER;
/// What a queue should hold by default, in bytes.
const QUEUE: u64 = 40_000;
/// The bounds of the default latency.
const LATENCY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(40));
/// The least that a queue holds by default, in frames.
const QUEUE_FRAMES: u64 = 12;
/// Below this rate, in bytes per second, packets of the kernel's are segmented.
const SEGMENTED_BELOW: u64 = 10_000_000 / 8;
/// The default burst.
const BURST: Duration = Duration::from_millis(25);
/// The longest burst that is one.
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// The shortest burst that keeps the rate.
const SHORTEST_BURST: Duration = Duration::from_millis(1);
/// The reference's latency.
const REFERENCE_LATENCY: Duration = Duration::from_millis(25);

/// The bucket for a limit on a device of this MTU.
pub fn bucket(limit: Limit, latency: Option<Duration>, mtu: u32) -> Tbf {
    let rate_bytes = limit.rate_bits / 8;
    let frame = u64::from(mtu) + FRAME_HEADER;
    let asked = limit.burst_bits.map(|bits| bits / 8);
    let burst = asked
        .filter(|burst| *burst <= carried(rate_bytes, LONGEST_BURST))
        .unwrap_or_else(|| carried(rate_bytes, BURST))
        .max(2 * frame)
        .max(carried(rate_bytes, SHORTEST_BURST));
    let frames = if latency.is_some() { 4 } else { QUEUE_FRAMES };
    let latency = latency.unwrap_or_else(|| {
        Duration::from_nanos(1_000_000_000_u64.saturating_mul(QUEUE) / rate_bytes.max(1))
            .clamp(LATENCY.0, LATENCY.1)
    });
    let queue = carried(rate_bytes, latency).max(frames * frame);
    let segmented = rate_bytes < SEGMENTED_BELOW;
    let room = if segmented { 0 } else { burst.min(GSO_MAX.max(frame)) };
    Tbf {
        rate_bytes,
        burst_bytes: fit(burst),
        queue_bytes: fit(queue.saturating_add(room)),
        packet_bytes: (segmented && burst > 2 * frame).then(|| fit(2 * frame)),
    }
}

/// The bucket that the reference plugin makes for a limit; none where it refuses it.
pub fn reference_bucket(limit: Limit) -> Option<Tbf> {
    let rate_bytes = limit.rate_bits / 8;
    let burst = limit.burst_bits? / 8;
    let queue = carried(rate_bytes, REFERENCE_LATENCY) + burst;
    Some(Tbf { rate_bytes, burst_bytes: fit(burst), queue_bytes: fit(queue), packet_bytes: None })
}

/// Bytes that a rate carries within a time.
fn carried(rate_bytes: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate_bytes) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn fit(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 1_000_000;

    fn of(rate_bits: u64, burst_bits: Option<u64>) -> Tbf {
        let tbf = bucket(Limit { rate_bits, burst_bits }, None, 1500);
        assert_eq!(tbf.rate_bytes, rate_bits / 8);
        tbf
    }

    #[test]
    fn a_burst_is_as_asked_where_the_rate_justifies_it() {
        let burst = |rate, asked| of(rate, asked).burst_bytes;
        assert_eq!(burst(10 * MBIT, Some(MBIT)), 125_000);
        assert_eq!(burst(10 * MBIT, Some(10 * MBIT)), 1_250_000, "a second");
        assert_eq!(burst(100 * MBIT, Some(100 * MBIT + 8)), 312_500, "more than a second");
        assert_eq!(burst(100 * MBIT, Some((1 << 31) - 1)), 312_500, "the kubelet's");
        assert_eq!(burst(100 * MBIT, None), 312_500);
        assert_eq!(burst(MBIT, Some(456)), 3036, "two frames");
        assert_eq!(burst(1000 * MBIT, Some(456)), 125_000, "a millisecond");
        assert_eq!(burst(8, None), 3036);
        assert_eq!(burst(u64::MAX, Some(u64::MAX)), u32::MAX);
    }

    #[test]
    fn a_queue_holds_the_latency_and_packets_fit_it() {
        let queue = |rate, asked| (of(rate, asked).queue_bytes, of(rate, asked).packet_bytes);
        assert_eq!(queue(MBIT, Some(100_000)), (18_216, Some(3036)), "twelve frames");
        assert_eq!(
            queue(MBIT / 2, None),
            (18_216, None),
            "a bucket of two frames segments by itself"
        );
        assert_eq!(queue(8 * MBIT, Some(MBIT)), (40_000, Some(3036)), "40 ms");
        assert_eq!(queue(20 * MBIT, Some(MBIT)), (40_000 + 65_554, None), "16 ms");
        assert_eq!(queue(100 * MBIT, Some(MBIT)), (125_000 + 65_554, None), "10 ms");
        let limit = Limit { rate_bits: 100 * MBIT, burst_bits: Some(MBIT) };
        let tbf = bucket(limit, Some(Duration::from_millis(1)), 1500);
        assert_eq!(tbf.queue_bytes, 12_500 + 65_554);
        assert_eq!(queue(u64::MAX, None).0, u32::MAX);
    }

    #[test]
    fn the_reference_s_bucket_is_known() {
        let limit = Limit { rate_bits: 10 * MBIT, burst_bits: Some(MBIT) };
        let tbf = reference_bucket(limit).unwrap();
        assert_eq!((tbf.burst_bytes, tbf.queue_bytes), (125_000, 31_250 + 125_000));
        assert_eq!(reference_bucket(Limit { burst_bits: None, ..limit }), None);
    }
}
