//! What changes while the broker serves: the configuration is read again, and of what differs the
//! reloadable part goes to the doors. A configuration that is wrong changes nothing.

use super::plan;
use crate::config::Config;
use crate::refusal::Refusal;
use crate::report::{self, Level};
use ringway_doors::session::DoorConfig;
use std::sync::Arc;

/// Reads the whole configuration anew.
pub(super) type Load = Box<dyn Fn() -> Result<Config, Refusal>>;

/// Keys that need no restart.
const RELOADABLE: [&str; 1] = ["limits.message_bytes_max"];

/// The configuration in force.
pub(super) struct Reload {
    load: Load,
    config: Config,
    doors: Arc<DoorConfig>,
    /// Shards reserved their frames for this much at the start.
    message_bytes_ceiling: u32,
}

impl Reload {
    /// Starts with what the broker was started with.
    pub(super) fn new(load: Load, config: Config, doors: Arc<DoorConfig>) -> Reload {
        let message_bytes_ceiling = plan::message_bytes_ceiling(&config);
        Reload { load, config, doors, message_bytes_ceiling }
    }

    /// New settings of the doors, if any differ; everything else is told to the operator.
    pub(super) fn read(&mut self) -> Option<Arc<DoorConfig>> {
        match self.take() {
            Ok(doors) => doors,
            Err(text) => {
                report::log(Level::Error, "reload", &format!("nothing changed: {text}"), &[]);
                None
            }
        }
    }

    fn take(&mut self) -> Result<Option<Arc<DoorConfig>>, String> {
        let next = (self.load)().map_err(|refusal| refusal.text)?;
        let bytes = next.limits.message_bytes_max;
        if bytes > self.message_bytes_ceiling {
            return Err(format!(
                "limits.message_bytes_max = {bytes}: this process can take {} at most, restart for more",
                self.message_bytes_ceiling
            ));
        }
        let changed = differing(&self.config, &next);
        let waiting: Vec<&str> =
            changed.iter().copied().filter(|key| !RELOADABLE.contains(key)).collect();
        if !waiting.is_empty() {
            let text = format!("changed but not in force before a restart: {}", waiting.join(", "));
            report::log(Level::Warn, "reload", &text, &[]);
        }
        if self.config.limits.message_bytes_max == bytes {
            report::log(Level::Info, "reload", "nothing to change", &[]);
            return Ok(None);
        }
        self.config.limits.message_bytes_max = bytes;
        self.doors = Arc::new(DoorConfig { message_bytes_max: bytes, ..(*self.doors).clone() });
        let fields = [("limits.message_bytes_max", bytes.into())];
        report::log(Level::Info, "reload", "in force now", &fields);
        Ok(Some(Arc::clone(&self.doors)))
    }
}

/// Keys whose values are not the same.
fn differing(old: &Config, new: &Config) -> Vec<&'static str> {
    let pairs = old.rows.iter().zip(&new.rows);
    pairs.filter(|(old, new)| old.value != new.value).map(|(old, _)| old.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Sources;
    use ringway_partition::catalog::Catalog;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Flags = Rc<RefCell<Vec<(&'static str, String, &'static str)>>>;

    /// A reload whose next flag values are in the cell.
    fn reload(flags: &Flags) -> Reload {
        let flags = Rc::clone(flags);
        let load = move || {
            let sources = Sources { flags: flags.borrow().clone(), ..Sources::default() };
            Config::load(&sources).map_err(|problems| Refusal::configuration(problems.join("\n")))
        };
        let config = load().expect("valid");
        let doors = Arc::new(plan::door_config(&config, &Catalog::default()));
        Reload::new(Box::new(load), config, doors)
    }

    #[test]
    fn the_message_limit_follows_and_a_wrong_configuration_changes_nothing() {
        let flags = Flags::default();
        let mut reload = reload(&flags);
        assert!(reload.read().is_none(), "nothing differs");
        let limit = |text: &str| vec![("limits.message_bytes_max", text.to_owned(), "--flag")];
        *flags.borrow_mut() = limit("1MiB");
        assert_eq!(reload.read().expect("changed").message_bytes_max, 1 << 20);
        *flags.borrow_mut() = limit("much");
        assert!(reload.read().is_none());
        *flags.borrow_mut() = limit("200MiB");
        assert!(reload.read().is_none(), "above what the shards were started for");
        assert_eq!(reload.doors.message_bytes_max, 1 << 20);
        *flags.borrow_mut() = limit("100MiB");
        assert_eq!(reload.read().expect("changed").message_bytes_max, 100 << 20);
    }

    #[test]
    fn other_keys_wait_for_a_restart() {
        let flags = Flags::default();
        let mut reload = reload(&flags);
        flags.borrow_mut().push(("node.id", "7".to_owned(), "--flag"));
        assert!(reload.read().is_none());
        let next = (reload.load)().expect("valid");
        assert_eq!(differing(&reload.config, &next), ["node.id"]);
    }
}
