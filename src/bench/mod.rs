//! `tapswitch bench`: this switch against others, all built in one run and measured in turn.

pub mod load;
pub mod topology;
