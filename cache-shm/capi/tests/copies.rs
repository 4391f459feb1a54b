//! Several copies of the library in one process: each is a participant of its own, and none
//! takes another for dead, or lets go of what another holds.
//!
//! The copies are the shared library, loaded from two files, and the crate that this test
//! is linked with. That is what a process has whose Python module and C library both bring
//! the cache along.

use std::ffi::{CString, c_char, c_void};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

type OpenFn = unsafe extern "C" fn(*const c_char, u64, u32, *mut *mut c_void) -> i32;
type CloseFn = unsafe extern "C" fn(*mut c_void);
type SetFn = unsafe extern "C" fn(*const c_void, *const c_void, usize, *const c_void, usize, u64) -> i32;
type GetFn = unsafe extern "C" fn(*const c_void, *const c_void, usize, *mut c_void, usize, *mut usize) -> i32;

/// A copy of the shared library with a handle on a region.
struct Loaded {
    close: CloseFn,
    set: SetFn,
    get: GetFn,
    cache: *mut c_void,
}

impl Loaded {
    fn load(library: &Path, region: &Path) -> Loaded {
        let path = CString::new(library.as_os_str().as_bytes()).unwrap();
        // SAFETY: a library that is never unloaded.
        let loaded = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!loaded.is_null(), "{}", library.display());
        let function = |name: &std::ffi::CStr| {
            // SAFETY: a loaded library and a name.
            let address = unsafe { libc::dlsym(loaded, name.as_ptr()) };
            assert!(!address.is_null(), "{name:?}");
            address
        };
        // SAFETY: the types are those of the header.
        let (open, close, set, get) = unsafe {
            (
                std::mem::transmute::<*mut c_void, OpenFn>(function(c"cshm_open")),
                std::mem::transmute::<*mut c_void, CloseFn>(function(c"cshm_close")),
                std::mem::transmute::<*mut c_void, SetFn>(function(c"cshm_set")),
                std::mem::transmute::<*mut c_void, GetFn>(function(c"cshm_get")),
            )
        };
        let region = CString::new(region.as_os_str().as_bytes()).unwrap();
        let mut cache = std::ptr::null_mut();
        // SAFETY: a zero-terminated name and a place for the handle.
        assert_eq!(unsafe { open(region.as_ptr(), 0, 0, &raw mut cache) }, 0);
        Loaded { close, set, get, cache }
    }

    /// The number that `cshm_set` returns.
    fn set(&self, key: u32, value: &[u8]) -> i32 {
        let key = key.to_le_bytes();
        // SAFETY: an open handle, and bytes that live through the call.
        unsafe { (self.set)(self.cache, key.as_ptr().cast(), key.len(), value.as_ptr().cast(), value.len(), u64::MAX) }
    }

    fn get(&self, key: u32) -> Option<Vec<u8>> {
        let (key, mut value, mut bytes) = (key.to_le_bytes(), vec![0u8; 64], 0);
        let room = value.len();
        // SAFETY: an open handle, and places that live through the call.
        let number = unsafe {
            (self.get)(self.cache, key.as_ptr().cast(), key.len(), value.as_mut_ptr().cast(), room, &raw mut bytes)
        };
        value.truncate(bytes);
        (number == 0).then_some(value)
    }

    fn close(self) {
        // SAFETY: an open handle, given up here.
        unsafe { (self.close)(self.cache) };
    }
}

/// A directory with two copies of the shared library.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--package", "cache-shm-capi", "--message-format=json", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let library = messages.split('"').find(|text| text.ends_with("/libcache_shm.so")).expect("cargo names it");
        let dir = Dir(PathBuf::from(format!("/dev/shm/cshm-copies-{}", std::process::id())));
        std::fs::create_dir(&dir.0).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&dir.0, private).unwrap();
        for name in ["one.so", "two.so"] {
            std::fs::copy(library, dir.0.join(name)).unwrap();
        }
        dir
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A forked child, which leaves with 0 if `body` holds in it.
struct Child(i32);

impl Child {
    fn fork(body: impl FnOnce() -> bool) -> Child {
        // SAFETY: the child calls the library and leaves.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: a plain system call; a child does not outlive the test.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let holds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: leaves at once.
            unsafe { libc::_exit(i32::from(!matches!(holds, Ok(true)))) };
        }
        Child(pid)
    }

    fn join(self, name: &str) {
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
        assert_eq!(status, 0, "in the {name}");
    }
}

#[test]
fn copies_of_the_library_in_one_process_are_participants_of_their_own() {
    const THREADS_WRITES: u32 = 5000;
    let dir = Dir::new();
    let region = dir.0.join("region");
    // Forked before anything is attached or loaded.
    let (mut wait, mut start) = std::io::pipe().unwrap();
    let newcomer = Child::fork(|| wait.read_exact(&mut [0]).is_ok() && come_anew(&region));
    let own = shm::Cache::builder(region.to_str()).size(2 << 20).create().unwrap();
    let copies = ["one.so", "two.so"].map(|library| Loaded::load(&dir.0.join(library), &region));
    assert_eq!(own.stats().unwrap().participants, 3, "each copy has a slot");

    // All three write, and find what the others wrote.
    for round in 0..100u32 {
        own.set(&round.to_le_bytes(), b"own").unwrap();
        for (copy, text) in copies.iter().zip([b"one", b"two"]) {
            assert_eq!(copy.get(round).as_deref(), Some(&own.get(&round.to_le_bytes()).unwrap().unwrap()[..]));
            assert_eq!(copy.set(round, text), 0);
            assert_eq!(own.get(&round.to_le_bytes()).unwrap().as_deref(), Some(&text[..]));
        }
    }

    // At once, on the same keys, in a region that is full: nobody takes another for dead.
    let addresses = copies.each_ref().map(|copy| std::ptr::from_ref(copy) as usize);
    std::thread::scope(|scope| {
        for address in addresses {
            scope.spawn(move || {
                // SAFETY: the copies outlive the threads, and their functions may be called from any thread.
                let copy = unsafe { &*(address as *const Loaded) };
                (0..THREADS_WRITES).for_each(|number| assert_eq!(copy.set(number % 700, &[7; 3000]), 0));
            });
        }
        for number in 0..THREADS_WRITES {
            own.set(&(number % 700).to_le_bytes(), &[7; 3000]).unwrap();
        }
    });
    let stats = own.stats().unwrap();
    assert_eq!((stats.take_overs, stats.participants, stats.pins), (0, 3, 0));
    assert!(stats.evictions > 0, "the region was full");

    // A forked child is a fourth, fifth and sixth; its end takes nothing from its parent.
    let child = Child::fork(|| {
        copies.iter().all(|copy| copy.set(1, b"child") == 0)
            && own.set(&1u32.to_le_bytes(), b"child").is_ok()
            && own.stats().is_ok_and(|stats| stats.participants == 6)
    });
    child.join("child");

    // One copy closes; the others stay alive in the eyes of a newcomer, which may take the
    // slots of the dead and no others.
    let [one, two] = copies;
    one.close();
    start.write_all(b"!").unwrap();
    newcomer.join("newcomer");
    assert_eq!(two.set(2, b"two"), 0);
    assert_eq!(own.get(&2u32.to_le_bytes()).unwrap().as_deref(), Some(&b"two"[..]));
    two.close();
    assert_eq!(own.stats().unwrap().participants, 1);
    assert!(own.validate().unwrap().is_clean());
}

/// As a process that was never attached before: asks for the life of everybody, and cleans
/// the slots of those who are dead.
fn come_anew(region: &Path) -> bool {
    let cache = shm::Cache::builder(region.to_str()).open().unwrap();
    let map = cache.map().unwrap();
    for index in 0..map.geometry().participant_count {
        shm::Host::retire(map.host(), index, &mut || map.clean_slot(index, None));
    }
    assert_eq!(cache.stats().unwrap().participants, 3, "two copies that live, and this process");
    (0..700u32).for_each(|number| assert!(cache.set(&number.to_le_bytes(), b"new").is_ok()));
    assert_eq!(cache.stats().unwrap().take_overs, 0);
    true
}
