//! What `catena try` is made of: a throw-away node, a page to fetch, and the kernel's own view before and after.

mod node;
mod page;
mod view;

pub use node::{Namespace, throw_away_node};
pub use page::{fetch_http, fetch_udp, serve_http, serve_udp};
pub use view::View;
