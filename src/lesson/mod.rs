//! Lessons: a small network, commands typed into it, and what its frames must do.

pub mod lang;
pub mod mermaid;
pub mod narrate;
pub mod pause;
pub mod watch;

pub use self::lang::Lang;
