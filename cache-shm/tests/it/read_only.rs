//! Read-only attachments: mapped PROT_READ, without a slot, without a trace.

use cache_shm::{Error, WriteOptions};

use crate::support::{Dir, fork, join};

#[test]
fn a_read_only_attachment_reads_leaves_no_trace_and_refuses_writes() {
    let dir = Dir::new();
    let maker = dir.region("a").size(2 << 20).create().unwrap();
    maker.set(b"k", b"value").unwrap();
    maker.set(b"large", &vec![3; 200_000]).unwrap();
    maker.close();
    let before = std::fs::read(dir.file("a")).unwrap();
    let reader = dir.region("a").read_only(true).open().unwrap();
    assert!(reader.is_read_only());
    assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(reader.get(b"large").unwrap().unwrap(), vec![3; 200_000]);
    assert_eq!(*reader.view(b"large").unwrap().unwrap(), vec![3; 200_000]);
    assert_eq!(reader.get(b"missing").unwrap(), None);
    assert_eq!(reader.len().unwrap(), 2);
    assert_eq!(reader.stats().unwrap().participants, 0);
    let options = WriteOptions::default();
    for refused in [
        reader.set(b"k", b"v").map(|_| ()),
        reader.add(b"new", b"v", &options).map(|_| ()),
        reader.replace(b"k", b"v", &options).map(|_| ()),
        reader.cas(b"k", 1, b"v", &options).map(|_| ()),
        reader.delete(b"k").map(|_| ()),
        reader.take(b"k", &mut Vec::new()).map(|_| ()),
        reader.incr(b"k", 1, None).map(|_| ()),
        reader.append(b"k", b"v").map(|_| ()),
        reader.touch(b"k", None).map(|_| ()),
        reader.clear(),
        reader.destroy(),
    ] {
        assert_eq!(refused.unwrap_err(), Error::ReadOnly);
    }
    drop(reader);
    assert!(std::fs::read(dir.file("a")).unwrap() == before, "not a byte of the region changed");
}

#[test]
fn a_read_only_handle_works_in_a_forked_child() {
    let dir = Dir::new();
    let maker = dir.region("a").size(1 << 20).create().unwrap();
    maker.set(b"k", b"v").unwrap();
    let reader = dir.region("a").read_only(true).open().unwrap();
    join(fork(|| assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"v"[..]))));
    assert_eq!(reader.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn a_read_only_handle_never_makes_a_region() {
    let dir = Dir::new();
    let error = dir.region("a").read_only(true).size(1 << 20).open_or_create().unwrap_err();
    assert_eq!(error, Error::Missing { path: dir.file("a") });
    assert_eq!(dir.names(), Vec::<String>::new());
}
