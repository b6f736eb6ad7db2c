//! All shared state in Redis: keys, records, and one Lua script per transition.
