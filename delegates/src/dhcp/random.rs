//! Random numbers for the numbers of exchanges and for waits.

/// Where a state machine has its random numbers from.
pub type Random<'a> = Box<dyn FnMut() -> u32 + Send + 'a>;

/// The kernel's.
pub fn of_kernel() -> Random<'static> {
    // The kernel has them from the first moment of a boot on (getrandom(2)): a failure is no case to be prepared for, and a
    // number that can be guessed is no worse than the one of a client of old.
    Box::new(|| getrandom::u32().unwrap_or_else(|_| std::process::id()))
}
