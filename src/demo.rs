//! The demonstration: a small network from nothing, and what happens in it.

/// Builds it, shows it and cleans up.
///
/// # Errors
/// It could not be built; says what stood in the way.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("run the demonstration: not built yet")
}
