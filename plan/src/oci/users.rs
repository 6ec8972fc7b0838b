//! An image's own users: who `USER app`, `USER 1000` or `USER app:staff` is by the image's `/etc/passwd` and `/etc/group`.
//!
//! Only the image's files count: the same name on the host is somebody else. The rules are runc's `user.GetExecUser` with
//! Kubernetes' on top: an id needs no row, a name does.

use std::collections::BTreeSet;

/// How much of either file is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// The highest id that the kernel takes.
const MAX_ID: u32 = u32::MAX - 1;

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Groups that list the user as a member, in order and each once; not of a user who has no name.
    pub groups: Vec<u32>,
    /// `$HOME`; `/` where nothing says it.
    pub home: String,
}

/// Why nobody is meant; Kubernetes' reason is `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// A name without a row.
    #[error("the image has no user {0:?} in its /etc/passwd")]
    NoUser(String),
    /// A group's name without a row.
    #[error("the image has no group {0:?} in its /etc/group")]
    NoGroup(String),
    /// A number that is none.
    #[error("{0:?} is not an id between 0 and {MAX_ID}")]
    OutOfRange(String),
}

/// The texts of both files, empty where the image has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Databases<'a> {
    /// `/etc/passwd`.
    pub passwd: &'a str,
    /// `/etc/group`.
    pub group: &'a str,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Databases<'a> {
    /// Who `user` is, as an image's configuration says it: `""`, `name`, `uid`, and `:group` or `:gid` behind either.
    ///
    /// # Errors
    /// [`UserError`]: there is nobody of that name, or the number is none.
    pub fn user(&self, user: &str) -> Result<User, UserError> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
            None => (user, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        // A name of digits alone is an id even if a row has it: otherwise an image could make 1000 mean root.
        let (row, uid) = match number(name)? {
            Some(uid) => (self.rows().find(|row| row.uid == uid), uid),
            None => {
                let row = self.rows().find(|row| row.name == name).ok_or_else(|| UserError::NoUser(name.to_owned()))?;
                let uid = row.uid;
                (Some(row), uid)
            }
        };
        let gid = match group {
            Some(group) => self.group(group)?,
            None => row.as_ref().map_or(0, |row| row.gid),
        };
        let groups = match (&row, group) {
            // Who names the group has no others: runc's rule, and Docker's.
            (Some(row), None) => self.groups_of(row.name),
            _ => Vec::new(),
        };
        let home = row.map(|row| row.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
        Ok(User { uid, gid, groups, home })
    }

    /// Who the user with that id is: its row's group and home, where it has one.
    pub fn by_id(&self, uid: u32) -> User {
        self.user(&uid.to_string()).unwrap_or(User { uid, gid: 0, groups: Vec::new(), home: "/".to_owned() })
    }

    fn group(&self, group: &str) -> Result<u32, UserError> {
        if let Some(gid) = number(group)? {
            return Ok(gid);
        }
        let found = lines(self.group).find_map(|fields| match fields[..] {
            [name, _, gid, ..] if name == group => gid.parse().ok(),
            _ => None,
        });
        found.filter(|gid| *gid <= MAX_ID).ok_or_else(|| UserError::NoGroup(group.to_owned()))
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        let of = lines(self.group).filter_map(|fields| match fields[..] {
            [_, _, gid, members] if members.split(',').any(|member| member.trim() == user) => gid.parse().ok(),
            _ => None,
        });
        of.filter(|gid| *gid <= MAX_ID).collect::<BTreeSet<u32>>().into_iter().collect()
    }

    fn rows(&self) -> impl Iterator<Item = Passwd<'a>> {
        lines(self.passwd).filter_map(|fields| match fields[..] {
            [name, _, uid, gid, _, home, ..] if !name.is_empty() => {
                let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
                (uid <= MAX_ID && gid <= MAX_ID).then_some(Passwd { name, uid, gid, home })
            }
            _ => None,
        })
    }
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let is_row = |line: &&str| !line.starts_with('#') && !line.contains('\0');
    text.lines().map(str::trim).filter(is_row).map(|line| line.splitn(8, ':').collect())
}

/// None: it is a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse().ok().filter(|id| *id <= MAX_ID);
    id.map(Some).ok_or_else(|| UserError::OutOfRange(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Databases<'_> = Databases {
        passwd: "# comment\nroot:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n\
                 1234:x:0:0::/evil:/bin/sh\nbroken\nhuge:x:4294967295:0::/:\nodd:x:7:7::relative:/bin/sh\n",
        group: "root:x:0:\nstaff:x:50:app,other\nwheel:x:10: app \nstaff2:x:50:app\nbad:x:x:app\n",
    };

    fn is(user: &str) -> (u32, u32, Vec<u32>, String) {
        let User { uid, gid, groups, home } = IMAGE.user(user).unwrap();
        (uid, gid, groups, home)
    }

    #[test]
    fn names_ids_and_groups() {
        assert_eq!(is(""), (0, 0, vec![], "/root".into()));
        assert_eq!(is("app"), (1000, 1001, vec![10, 50], "/home/app".into()));
        assert_eq!(is("1000"), is("app"));
        assert_eq!(is("app:staff"), (1000, 50, vec![], "/home/app".into()));
        assert_eq!(is("app:7"), (1000, 7, vec![], "/home/app".into()));
        assert_eq!(is(":staff"), (0, 50, vec![], "/root".into()));
        assert_eq!(is("app:"), is("app"));
        assert_eq!(is("4000:5000"), (4000, 5000, vec![], "/".into()));
        assert_eq!(is("odd"), (7, 7, vec![], "/".into()));
        assert_eq!(IMAGE.by_id(4000), User { uid: 4000, gid: 0, groups: vec![], home: "/".into() });
    }

    #[test]
    fn a_name_of_digits_is_an_id() {
        assert_eq!(is("1234"), (1234, 0, vec![], "/".into()));
    }

    #[test]
    fn nobody_of_that_name_or_number() {
        let said = |user: &str| IMAGE.user(user).unwrap_err().to_string();
        assert_eq!(said("web"), "the image has no user \"web\" in its /etc/passwd");
        assert_eq!(said("app:web"), "the image has no group \"web\" in its /etc/group");
        assert_eq!(said("4294967295"), "\"4294967295\" is not an id between 0 and 4294967294");
        assert_eq!(said("app:99999999999"), "\"99999999999\" is not an id between 0 and 4294967294");
        assert_eq!(said("huge"), "the image has no user \"huge\" in its /etc/passwd");
        assert_eq!(said("bad:bad"), "the image has no user \"bad\" in its /etc/passwd");
        assert!(Databases::default().user("app").is_err());
        assert_eq!(Databases::default().user("").unwrap().uid, 0);
    }
}
