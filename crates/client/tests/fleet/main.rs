//! One client and servers that misbehave: silent ones, slow ones, and some that say nonsense about time.

mod disk;
mod fake;
mod silent;
mod times;
