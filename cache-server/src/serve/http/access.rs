//! Who may see the page and the metrics.
//!
//! Owns: the token, what stands for it in a browser, and the names by which the server may be
//! asked for. A socket in the file system is guarded by its permissions; at an address of the
//! network who asks says the token. The names are checked everywhere: a page of somebody
//! else's, whose name was made to point here, is refused by the name in `Host`.
//!
//! Must never: take a longer time to refuse a token because more of it is right.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use cache_shm::Error;

use super::request::{Request, field};
use crate::failure::Result;
use crate::serve::config::Config;
use crate::serve::users::is_same;

/// The cookie that stands for the token; its name goes on with the port, because browsers keep one
/// set of cookies for all ports of a host.
const COOKIE: &str = "cache_shm_page_";
/// Names of the host for itself.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What is asked for, and what stands for it.
struct Secrets {
    token: Option<Vec<u8>>,
    /// In a browser's cookie instead of the token. Another one each time the token is read, so
    /// that a new token ends what was allowed by the old one.
    cookie: String,
    /// In requests that change something, so that they come from our page.
    csrf: String,
}

/// The way in.
pub struct Access {
    secrets: RwLock<Arc<Secrets>>,
    token_file: Option<PathBuf>,
    hosts: Vec<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secrets.
        f.debug_struct("Access").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// What came of a look at a request's token.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Go on. `true` if the token itself was said, as no browser does by itself.
    Allowed(bool),
    /// The token is in the address: go on there without it, with this cookie.
    Welcome(String),
    /// No, or another token.
    Refused,
}

fn secrets(token_file: Option<&Path>) -> Result<Secrets> {
    let token = token_file.map(crate::serve::users::secret).transpose()?;
    Ok(Secrets { token, cookie: random()?, csrf: random()? })
}

/// 128 bits that nobody guesses.
fn random() -> Result<String> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                let path = "/dev/urandom".into();
                return Err(Error::Io { operation: "getrandom", errno: errno.raw_os_error(), path }.into());
            }
        }
    }
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

impl Access {
    /// As `config` says.
    ///
    /// # Errors
    /// The token's file is missing, empty, or somebody else's.
    pub fn new(config: &Config) -> Result<Access> {
        let secrets = RwLock::new(Arc::new(secrets(config.http_token_file.as_deref())?));
        Ok(Access { secrets, token_file: config.http_token_file.clone(), hosts: config.http_hosts.clone() })
    }

    /// Reads the token anew; who came in by the old one has to say the new one.
    ///
    /// # Errors
    /// As [`Access::new`]; then the old one stays.
    pub fn reload(&self) -> Result<()> {
        let read = Arc::new(secrets(self.token_file.as_deref())?);
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn secrets(&self) -> Arc<Secrets> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a request that changes something has to say; our page is told it.
    pub fn csrf(&self) -> String {
        self.secrets().csrf.clone()
    }

    /// The request came from our page.
    pub fn is_ours(&self, request: &Request<'_>) -> bool {
        let is_told = request.csrf.is_some_and(|given| is_same(self.secrets().csrf.as_bytes(), given));
        is_told && self.is_same_origin(request)
    }

    /// If a browser says which page asks, it is one of this server.
    fn is_same_origin(&self, request: &Request<'_>) -> bool {
        let Some(origin) = request.origin else { return true };
        let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        origin.is_some_and(|origin| Some(origin) == request.host)
    }

    /// The server may be asked for by the request's name. `port` is that of its address in the
    /// network; a socket has none, and who forwards to it may have any.
    pub fn is_host_allowed(&self, request: &Request<'_>, port: Option<u16>) -> bool {
        let Some(host) = request.host.and_then(|host| std::str::from_utf8(host).ok()) else { return false };
        let host = host.to_ascii_lowercase();
        let (name, given) = match host.rsplit_once(':') {
            // The colons of an address of version 6 stand in brackets.
            Some((name, given)) if !given.ends_with(']') => (name, Some(given)),
            _ => (host.as_str(), None),
        };
        let is_port = given.is_none_or(|given| match port {
            Some(port) => given == port.to_string(),
            None => !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()),
        });
        (is_port && (OWN.contains(&name) || self.hosts.iter().any(|allowed| allowed == name)))
            || self.hosts.contains(&host)
    }

    /// Looks for the token in a request to the network's `port`.
    pub fn enter(&self, request: &Request<'_>, port: u16) -> Entry {
        let secrets = self.secrets();
        let Some(token) = &secrets.token else { return Entry::Refused };
        let said = request.authorization.and_then(|value| {
            let (scheme, said) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(said.trim_ascii())
        });
        if let Some(said) = said {
            return if is_same(token, said) { Entry::Allowed(true) } else { Entry::Refused };
        }
        let name = format!("{COOKIE}{port}=");
        // Before the cookie: an address with the token in it is left in any case.
        if let Ok(Some(given)) = field(request.query.as_bytes(), "token")
            && is_same(token, &given)
        {
            let cookie = &secrets.cookie;
            // Lax: a link on another site leads in as well. Changes ask for more than the cookie.
            return Entry::Welcome(format!("{name}{cookie}; Path=/; HttpOnly; SameSite=Lax"));
        }
        let cookies = request.cookie.unwrap_or_default().split(|byte| *byte == b';');
        let mut ours = cookies.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes()));
        if ours.any(|given| is_same(secrets.cookie.as_bytes(), given)) { Entry::Allowed(false) } else { Entry::Refused }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Parsed, parse};
    use super::*;

    fn access(hosts: &[&str]) -> Access {
        let token = Some(b"s3cret".to_vec());
        let secrets = Secrets { token, cookie: random().unwrap(), csrf: random().unwrap() };
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Access { secrets: RwLock::new(Arc::new(secrets)), token_file: None, hosts }
    }

    fn with<R>(target: &str, headers: &str, look: impl FnOnce(&Request<'_>) -> R) -> R {
        let text = format!("GET {target} HTTP/1.1\r\n{headers}\r\n\r\n");
        match parse(text.as_bytes()) {
            Ok(Parsed::Whole(request, _)) => look(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_names_of_this_host_and_given_ones_are_answered() {
        let access = access(&["cache.internal", "proxy:8080"]);
        let allowed = |host: &str, port| with("/", &format!("Host: {host}"), |r| access.is_host_allowed(r, port));
        for host in ["localhost:9090", "LOCALHOST", "127.0.0.1:9090", "[::1]:9090", "[::1]", "cache.internal:9090"] {
            assert!(allowed(host, Some(9090)), "{host}");
        }
        assert!(allowed("proxy:8080", Some(9090)) && allowed("localhost:1234", None));
        for host in ["evil.example", "evil.example:9090", "localhost:80", "localhost.evil.example", "127.0.0.1.evil"] {
            assert!(!allowed(host, Some(9090)), "{host}");
        }
        for host in ["proxy", "localhost:", "localhost:x", "", "[::1", "evil@localhost:1"] {
            assert!(!allowed(host, Some(9090)), "{host}");
        }
        assert!(!allowed("evil.example", None) && !allowed("localhost:", None));
    }

    #[test]
    fn the_token_lets_in_and_once_said_its_cookie_does() {
        let access = access(&[]);
        let enter =
            |target: &str, headers: &str| with(target, &format!("Host: a\r\n{headers}"), |r| access.enter(r, 1));
        assert_eq!(enter("/", "Authorization: Bearer s3cret"), Entry::Allowed(true));
        for (target, headers) in [
            ("/", "A: b"),
            ("/", "Authorization: Bearer s3cre"),
            ("/", "Authorization: Bearer "),
            ("/", "Authorization: Basic s3cret"),
            ("/?token=", "A: b"),
            ("/?token=S3cret", "A: b"),
            ("/", "Cookie: cache_shm_page_1=s3cret"),
            ("/", "Cookie: cache_shm_page_1="),
            // Who says a wrong token is not let in by another way.
            ("/?token=s3cret", "Authorization: Bearer wrong"),
        ] {
            assert_eq!(enter(target, headers), Entry::Refused, "{target} {headers}");
        }
        let Entry::Welcome(cookie) = enter("/?token=s3cret", "A: b") else { panic!("not let in") };
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax") && !cookie.contains("s3cret"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        assert_eq!(enter("/", &format!("Cookie: x=y; {pair}")), Entry::Allowed(false));
        // Then the address is left too: nobody shows it to who looks at the screen.
        assert_eq!(enter("/?token=s3cret", &format!("Cookie: {pair}")), Entry::Welcome(cookie.clone()));
        assert_eq!(enter("/?token=old", &format!("Cookie: {pair}")), Entry::Allowed(false));
        access.reload().unwrap();
        assert_eq!(enter("/", &format!("Cookie: {pair}")), Entry::Refused, "its time is over");
        assert!(!format!("{access:?}").contains("s3cret"));
    }

    #[test]
    fn only_our_page_changes_anything() {
        let access = access(&[]);
        let csrf = access.csrf();
        let ours = |headers: String| with("/", &format!("Host: a:1\r\n{headers}"), |r| access.is_ours(r));
        assert!(ours(format!("X-CSRF-Token: {csrf}")));
        assert!(ours(format!("X-CSRF-Token: {csrf}\r\nOrigin: http://a:1")));
        assert!(!ours(format!("X-CSRF-Token: {csrf}\r\nOrigin: http://b:1")));
        assert!(!ours(format!("X-CSRF-Token: {csrf}\r\nOrigin: null")));
        assert!(!ours("X-CSRF-Token: x".to_owned()) && !ours("A: b".to_owned()));
    }
}
