//! What every `MetaStore` must do, whatever it is built on.

use super::store::{
    Event, Expect, MetaStore, Op, Outcome, StoreError, TXN_PARTS_MAX, Txn, VALUE_BYTES_MAX,
    Watched, read_all, read_row,
};
use std::any::Any;

/// Makes an empty store and whatever must outlive it.
pub(crate) type Make<'a> = &'a mut dyn FnMut() -> (Box<dyn MetaStore>, Box<dyn Any>);

/// Runs the suite.
pub(crate) fn run(make: Make<'_>) {
    let cases: [fn(&mut dyn MetaStore); 6] = [
        revisions_rise_by_one_per_commit,
        compares_decide_between_then_and_otherwise,
        every_kind_of_compare,
        ranges_are_paged_in_order,
        watch_is_ordered_and_gapless,
        bounds_are_kept,
    ];
    for case in cases {
        let (mut store, _keep) = make();
        case(store.as_mut());
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.as_bytes().to_vec())
}

fn commit(store: &mut dyn MetaStore, then: Vec<Op>) -> u64 {
    match store.txn(&Txn { then, ..Txn::default() }).expect("runs") {
        Outcome::Committed { revision } => revision,
        other => panic!("{other:?}"),
    }
}

fn revisions_rise_by_one_per_commit(store: &mut dyn MetaStore) {
    assert_eq!(commit(store, vec![put("a", "1"), put("b", "1")]), 1);
    assert_eq!(commit(store, vec![put("a", "2")]), 2);
    let row = read_row(store, "a").expect("reads").expect("exists");
    assert_eq!((row.create_revision, row.mod_revision), (1, 2));
    commit(store, vec![Op::Delete("a".to_owned())]);
    assert_eq!(read_row(store, "a").expect("reads"), None);
    assert_eq!(commit(store, vec![put("a", "3")]), 4);
    let row = read_row(store, "a").expect("reads").expect("exists");
    assert_eq!((row.create_revision, row.mod_revision), (4, 4));
}

fn compares_decide_between_then_and_otherwise(store: &mut dyn MetaStore) {
    let txn = Txn {
        compares: vec![("a".to_owned(), Expect::Absent), ("b".to_owned(), Expect::Absent)],
        then: vec![put("a", "then")],
        otherwise: vec![put("c", "otherwise")],
    };
    assert_eq!(store.txn(&txn).expect("runs"), Outcome::Committed { revision: 1 });
    let Outcome::NotMet { revision, found } = store.txn(&txn).expect("runs") else {
        panic!("the second one must not be met");
    };
    assert_eq!((revision, found.len()), (2, 1));
    assert_eq!((found[0].key.as_str(), &*found[0].value), ("a", &b"then"[..]));
    assert!(read_row(store, "c").expect("reads").is_some());
}

fn every_kind_of_compare(store: &mut dyn MetaStore) {
    commit(store, vec![put("a", "1")]);
    commit(store, vec![put("a", "2")]);
    let cases = [
        (Expect::Absent, false),
        (Expect::CreateRevision(1), true),
        (Expect::CreateRevision(2), false),
        (Expect::ModRevision(2), true),
        (Expect::ModRevision(1), false),
        (Expect::Value(b"2".to_vec()), true),
        (Expect::Value(b"1".to_vec()), false),
    ];
    for (expect, met) in cases {
        let txn = Txn { compares: vec![("a".to_owned(), expect.clone())], ..Txn::default() };
        let outcome = store.txn(&txn).expect("runs");
        assert_eq!(matches!(outcome, Outcome::Committed { revision: 2 }), met, "{expect:?}");
        let absent = Txn { compares: vec![("x".to_owned(), expect.clone())], ..Txn::default() };
        let outcome = store.txn(&absent).expect("runs");
        let met = expect == Expect::Absent;
        assert_eq!(matches!(outcome, Outcome::Committed { .. }), met, "absent, {expect:?}");
    }
}

fn ranges_are_paged_in_order(store: &mut dyn MetaStore) {
    for number in (0..25).rev() {
        commit(store, vec![put(&format!("row/{number:02}"), "x")]);
    }
    commit(store, vec![put("row", "outside"), put("rox", "outside")]);
    let page = store.range("row/", None, 10).expect("reads");
    assert!(page.more);
    assert_eq!(page.rows.len(), 10);
    assert_eq!(page.rows[9].key, "row/09");
    let page = store.range("row/", Some("row/19"), 10).expect("reads");
    assert!(!page.more);
    assert_eq!(page.rows.len(), 5);
    let (rows, revision) = read_all(store, "row/").expect("reads");
    assert_eq!((rows.len(), revision), (25, 26));
    assert!(rows.windows(2).all(|pair| pair[0].key < pair[1].key));
}

fn watch_is_ordered_and_gapless(store: &mut dyn MetaStore) {
    commit(store, vec![put("a/1", "1"), put("b/1", "1")]);
    commit(store, vec![Op::Delete("a/1".to_owned()), Op::Delete("a/absent".to_owned())]);
    commit(store, vec![put("a/2", "2")]);
    let event = |revision, key: &str, value: Option<&str>| Event {
        revision,
        key: key.to_owned(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    let all = vec![event(1, "a/1", Some("1")), event(2, "a/1", None), event(3, "a/2", Some("2"))];
    assert_eq!(store.watch("a/", 1), Watched::Events { events: all.clone(), next: 4 });
    assert_eq!(store.watch("a/", 3), Watched::Events { events: all[2..].to_vec(), next: 4 });
    assert_eq!(store.watch("a/", 4), Watched::Events { events: vec![], next: 4 });
}

fn bounds_are_kept(store: &mut dyn MetaStore) {
    let too_many = Txn { then: vec![put("a", "1"); TXN_PARTS_MAX + 1], ..Txn::default() };
    assert!(matches!(store.txn(&too_many), Err(StoreError::Refused(_))));
    let too_long = Txn { then: vec![put("a", &"x".repeat(VALUE_BYTES_MAX + 1))], ..Txn::default() };
    assert!(matches!(store.txn(&too_long), Err(StoreError::Refused(_))));
    assert_eq!(read_row(store, "a").expect("reads"), None);
}
