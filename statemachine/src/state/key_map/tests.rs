use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::Revision;
use crate::row::Row;

/// The keys that a tree with these heads must hold, with the position of each.
type Model = BTreeMap<Vec<u8>, u64>;

fn head(key: &[u8], position: u64) -> Head {
    let row = Row {
        key,
        value: b"",
        create_revision: Revision(1),
        mod_revision: Revision(1),
        version: 1,
        lease: 0,
    };
    Head::new(
        Record::build(&row, &[], &mut Vec::new()),
        ChangePosition(position),
    )
}

fn pair(head: &Head) -> (Vec<u8>, u64) {
    (head.key().to_vec(), head.position().0)
}

/// Inserts the key if it is absent, removes it if it is present.
fn toggle(map: &mut KeyMap, model: &mut Model, key: &[u8], position: u64) {
    if model.remove(key).is_some() {
        map.remove(key);
    } else {
        map.insert(head(key, position));
        model.insert(key.to_vec(), position);
    }
}

fn check_lookups(map: &KeyMap, model: &Model, key: &[u8]) {
    assert_eq!(
        map.get(key).map(|head| head.position().0),
        model.get(key).copied()
    );
    let above: Vec<_> = map.forward_from(key).take(3).map(pair).collect();
    let expected: Vec<_> = model
        .range(key.to_vec()..)
        .take(3)
        .map(|(k, p)| (k.clone(), *p))
        .collect();
    assert_eq!(above, expected);
    let below: Vec<_> = map.backward_before(Some(key)).take(3).map(pair).collect();
    let expected: Vec<_> = model
        .range(..key.to_vec())
        .rev()
        .take(3)
        .map(|(k, p)| (k.clone(), *p))
        .collect();
    assert_eq!(below, expected);
}

fn check_whole(map: &KeyMap, model: &Model) {
    let forward: Vec<_> = map.forward_from(b"").map(pair).collect();
    let expected: Vec<_> = model
        .iter()
        .map(|(key, position)| (key.clone(), *position))
        .collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> = map.backward_before(None).map(pair).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    check_counts(map);
}

/// The counts that the memory is accounted by are those of the nodes that exist, and no node is over-full.
fn check_counts(map: &KeyMap) {
    fn count(node: &Node, leaves: &mut u64, inners: &mut u64) {
        assert!(node.len() <= NODE_ENTRIES_MAX);
        match node {
            Node::Leaf(_) => *leaves += 1,
            Node::Inner(inner) => {
                *inners += 1;
                (0..inner.len()).for_each(|index| count(inner.child(index), leaves, inners));
            }
        }
    }
    let (mut leaves, mut inners) = (0, 0);
    count(&map.root, &mut leaves, &mut inners);
    assert_eq!((leaves, inners), (map.counts.leaves, map.counts.inners));
}

/// Keys as paths have them: long common beginnings, keys that begin other keys, zeros that padding could confuse.
fn path_key(number: u64) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let directory = mixed >> 60;
    let mut key = format!("/registry/objects/{directory}/item-").into_bytes();
    let digits = (mixed >> 32 & 0xfff).to_string();
    key.extend_from_slice(digits.as_bytes());
    key.resize(key.len() + (mixed >> 20 & 3) as usize, 0);
    key
}

#[test]
fn a_large_tree_grows_and_shrinks_as_a_sorted_map() {
    let (mut map, mut model) = (KeyMap::new(), Model::new());
    for number in 1..=30_000 {
        toggle(&mut map, &mut model, &path_key(number), number);
        if number % 64 == 0 {
            check_lookups(&map, &model, &path_key(number / 2));
            check_lookups(&map, &model, &path_key(number + 1));
        }
    }
    assert!(map.counts.inners > 1, "the tree has at least three levels");
    check_whole(&map, &model);
    for (removed, key) in (0..).zip(model.clone().into_keys()) {
        if removed % 1024 == 0 {
            check_whole(&map, &model);
        }
        toggle(&mut map, &mut model, &key, 0);
    }
    check_whole(&map, &model);
    assert_eq!((map.counts.leaves, map.counts.inners), (1, 0));
}

#[test]
fn sparse_leaves_are_joined() {
    let (mut map, mut model) = (KeyMap::new(), Model::new());
    for number in 1..=20_000 {
        let key = format!("key-{number:08}").into_bytes();
        toggle(&mut map, &mut model, &key, number);
    }
    let leaves_full = map.counts.leaves;
    assert_eq!(
        leaves_full,
        20_000_u64.div_ceil(NODE_ENTRIES_MAX as u64),
        "keys in order fill the leaves"
    );
    for number in (1..=20_000).filter(|number| number % 50 != 0) {
        let key = format!("key-{number:08}").into_bytes();
        toggle(&mut map, &mut model, &key, number);
    }
    check_whole(&map, &model);
    assert!(
        map.counts.leaves < leaves_full / 8,
        "{} of {leaves_full} leaves remain",
        map.counts.leaves
    );
}

#[test]
fn a_head_is_changed_in_place() {
    let mut map = KeyMap::new();
    map.insert(head(b"k", 1));
    let newer = head(b"k", 2);
    let old = map
        .get_mut(b"k")
        .unwrap()
        .replace(newer.record, ChangePosition(2));
    assert!(old.is_some());
    map.get_mut(b"k").unwrap().bury(ChangePosition(3));
    let buried = map.get(b"k").unwrap();
    assert!(buried.live().is_none() && buried.position() == ChangePosition(3));
    let reborn = head(b"k", 4);
    assert!(
        map.get_mut(b"k")
            .unwrap()
            .replace(reborn.record, ChangePosition(4))
            .is_none()
    );
    assert!(map.get(b"k").unwrap().live().is_some());
}

proptest! {
    #[test]
    fn short_keys_of_few_bytes_are_ordered(
        keys in prop::collection::vec(prop::collection::vec(prop::sample::select(&[0_u8, 1, b'/', 0xff][..]), 0..12), 1..300),
    ) {
        let (mut map, mut model) = (KeyMap::new(), Model::new());
        for (position, key) in (1..).zip(&keys) {
            toggle(&mut map, &mut model, key, position);
            check_lookups(&map, &model, key);
        }
        for key in &keys {
            check_lookups(&map, &model, key);
        }
        check_whole(&map, &model);
    }
}
