//! A host and a port, as they stand in the file of a cluster and as clients are told them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use metastore_engine::CoreId;
use thiserror::Error;

/// No name in the domain name system is longer.
const HOST_BYTES_MAX: usize = 253;

/// Where a core can be reached: a name or an address, and a port.
///
/// Names are in lower case and addresses in their usual form, so that what is the same is equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a text is no host with a port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum HostPortError {
    /// There is no port.
    #[error("\"{text}\" has no port; write it like 10.0.0.1:7400, db1:7400 or [::1]:7400")]
    NoPort {
        /// What was written.
        text: String,
    },
    /// The port is none.
    #[error("\"{text}\" has no port between 1 and 65535 behind its last colon")]
    Port {
        /// What was written.
        text: String,
    },
    /// An address of version 6 without brackets: where it ends cannot be told.
    #[error(
        "\"{text}\" has several colons: write an address of version 6 in brackets, like [::1]:7400"
    )]
    NoBrackets {
        /// What was written.
        text: String,
    },
    /// There is no host, or none that can be.
    #[error(
        "\"{text}\" has no host: an address, or a name of at most {HOST_BYTES_MAX} letters, digits, dots, dashes and underscores"
    )]
    Host {
        /// What was written.
        text: String,
    },
    /// An address that stands for all addresses of a machine.
    #[error("\"{text}\" is no address that others can connect to: name one of the machine's own")]
    Unspecified {
        /// What was written.
        text: String,
    },
}

impl HostPort {
    /// Where a core is whose node has core 0 here.
    #[cfg(test)]
    pub(crate) fn of_core(&self, core: CoreId) -> HostPort {
        let endpoint = self.checked_of_core(core);
        endpoint.expect("the ports of all cores were checked")
    }

    /// The same, `None` when there is no such port.
    pub(crate) fn checked_of_core(&self, core: CoreId) -> Option<HostPort> {
        Some(HostPort {
            host: self.host.clone(),
            port: self.port.checked_add(core.0)?,
        })
    }

    /// The host's address, where it is one and no name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        match host.contains(':') {
            true => write!(formatter, "[{host}]:{port}"),
            false => write!(formatter, "{host}:{port}"),
        }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<HostPort, HostPortError> {
        let owned = || text.to_owned();
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| HostPortError::NoPort { text: owned() })?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').and_then(|rest| rest.parse().ok());
                let address: Ipv6Addr =
                    address.ok_or_else(|| HostPortError::Host { text: owned() })?;
                address.to_string()
            }
            None if host.contains(':') => return Err(HostPortError::NoBrackets { text: owned() }),
            None => host.to_ascii_lowercase(),
        };
        let is_name = |host: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(is_allowed)
        };
        let address = host.parse::<IpAddr>();
        if address.is_err() && !is_name(&host) {
            return Err(HostPortError::Host { text: owned() });
        }
        if address.is_ok_and(|address| address.is_unspecified()) {
            return Err(HostPortError::Unspecified { text: owned() });
        }
        // A sign would be read as part of the number.
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if is_number && port > 0 => Ok(HostPort { host, port }),
            Ok(_) | Err(_) => Err(HostPortError::Port { text: owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HostPort, HostPortError> {
        text.parse()
    }

    #[test]
    fn what_is_read_is_shown_in_its_usual_form() {
        for (text, shown) in [
            ("10.0.0.1:7400", "10.0.0.1:7400"),
            ("DB1.Example:1", "db1.example:1"),
            ("[0:0::1]:65535", "[::1]:65535"),
            ("a_b-c:7400", "a_b-c:7400"),
        ] {
            let read = parse(text).expect("it is one");
            assert_eq!(read.to_string(), shown);
            assert_eq!(parse(shown), Ok(read));
        }
        assert_eq!(parse("[::1]:7400").map(|read| read.host), Ok("::1".into()));
    }

    #[test]
    fn what_is_none_is_refused_with_what_is_missing() {
        for (text, expected) in [
            ("10.0.0.1", "no port; write it like"),
            ("", "no port; write it like"),
            ("db1:", "no port between 1 and 65535"),
            ("db1:0", "no port between 1 and 65535"),
            ("db1:65536", "no port between 1 and 65535"),
            ("db1:+1", "no port between 1 and 65535"),
            ("db1:a", "no port between 1 and 65535"),
            (":7400", "has no host"),
            ("a b:7400", "has no host"),
            ("http://a:7400", "several colons"),
            ("::1:7400", "in brackets"),
            ("[::1:7400", "has no host"),
            ("[10.0.0.1]:7400", "has no host"),
            ("[fe80::1%eth0]:7400", "has no host"),
            ("0.0.0.0:7400", "others can connect"),
            ("[::]:7400", "others can connect"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(parse(&format!("{}:1", "a".repeat(254))).is_err());
    }

    #[test]
    fn cores_follow_each_other_as_long_as_there_are_ports() {
        let first = parse("[::1]:65534").expect("it is one");
        assert_eq!(first.of_core(CoreId(1)).to_string(), "[::1]:65535");
        assert_eq!(first.checked_of_core(CoreId(2)), None);
    }
}
