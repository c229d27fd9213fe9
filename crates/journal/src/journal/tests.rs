//! Appending, recovering and failing.

use super::*;
use crate::{
    error::Damage,
    format::HEADER,
    read, testing,
    testing::{TestDisk, marks, options, outcome},
    verify,
};
use std::{
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn continues_the_chain_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    // One of each kind, and another.
    let records = testing::one_of_each().len() as u64 + 1;
    for round in 0..3 {
        let journal = Journal::open(dir.path(), options()).unwrap();
        assert_eq!(journal.recovered(), None);
        for record in testing::one_of_each() {
            journal.record(record).await.unwrap();
        }
        let position = journal.record_durable(outcome(round)).await.unwrap();
        assert_eq!(position.record, records * (round + 1));
        journal.close().unwrap();
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.segments, verified.records), (1, records * (round + 1)));
        heads.push(verified.link);
    }
    heads.dedup();
    assert_eq!(heads.len(), 3);
}

#[tokio::test]
async fn says_where_a_durable_record_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { segment_bytes: 1000, ..options() }).unwrap();
    for round in 0..10 {
        journal.record(outcome(round)).await.unwrap();
        let position = journal.record_durable(outcome(100 + round)).await.unwrap();
        let entry = read(dir.path()).map(Result::unwrap).find(|entry| entry.position == position).unwrap();
        assert_eq!(testing::mark(&entry.record().unwrap()), 100 + round);
    }
}

#[tokio::test]
async fn those_who_wait_together_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open(dir.path(), options()));
    let before = disk.counts();
    disk.plan().hold = true;
    let begun = Arc::new(AtomicU64::new(0));
    let append = |mark| {
        let (journal, begun) = (Arc::clone(&journal), Arc::clone(&begun));
        tokio::spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            journal.record_durable(outcome(mark)).await
        })
    };
    let first = append(0);
    // Once for it to append, once for it to press for a sync.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    disk.until_held().await;
    let others: Vec<_> = (1..=200).map(append).collect();
    // On this single thread a task that has begun has come to where it waits.
    while begun.load(Ordering::Relaxed) < 201 {
        tokio::task::yield_now().await;
    }
    disk.release();
    first.await.unwrap().unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let after = disk.counts();
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 2));
    assert_eq!(marks(dir.path()), (0..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_nobody_waits_for_is_not_synced_alone_but_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), options());
    let before = disk.plan().syncs;
    for mark in 0..100 {
        journal.record(outcome(mark)).await.unwrap();
    }
    assert_eq!(disk.plan().syncs, before);
    journal.record_durable(outcome(100)).await.unwrap();
    assert_eq!(disk.plan().syncs, before + 1);
    journal.record(outcome(101)).await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(disk.plan().syncs, before + 2);
    assert_eq!(marks(dir.path()), (0..=101).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_nobody_waits_for_is_synced_after_the_delay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), Options { sync_delay: Duration::from_millis(1), ..options() });
    disk.plan().hold = true;
    journal.record(outcome(0)).await.unwrap();
    disk.until_held().await;
    disk.release();
}

#[tokio::test]
async fn closing_and_dropping_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    for mark in 0..4 {
        let journal = Journal::open(dir.path(), options()).unwrap();
        journal.record(outcome(mark)).await.unwrap();
        if mark % 2 == 0 {
            journal.close().unwrap();
        } else {
            drop(journal);
        }
    }
    assert_eq!(marks(dir.path()), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_full_queue_makes_the_next_append_wait() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open(dir.path(), Options { queue_bytes: 4096, ..options() }));
    disk.plan().hold = true;
    let all = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move {
            // One that is synced holds the writer up, the others fill the queue.
            let first = tokio::spawn({
                let journal = Arc::clone(&journal);
                async move { journal.record_durable(outcome(0)).await }
            });
            tokio::task::yield_now().await;
            for mark in 1..100 {
                journal.record(outcome(mark)).await.unwrap();
            }
            first.await.unwrap().unwrap();
        }
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!all.is_finished(), "100 records do not fit into 4096 bytes");
    disk.release();
    all.await.unwrap();
    journal.flush().await.unwrap();
    assert_eq!(marks(dir.path()), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_larger_than_the_queue_passes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { queue_bytes: 64, ..options() }).unwrap();
    journal.record_durable(testing::refused(&"x".repeat(100_000))).await.unwrap();
    assert_eq!(verify(dir.path()).unwrap().records, 1);
}

#[tokio::test]
async fn a_cancelled_append_is_recorded_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open(dir.path(), options()));
    disk.plan().hold = true;
    let cancelled = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.record_durable(outcome(1)).await }
    });
    tokio::task::yield_now().await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    disk.release();
    journal.record_durable(outcome(2)).await.unwrap();
    assert_eq!(marks(dir.path()), [1, 2]);
}

#[tokio::test]
async fn rotates_and_goes_on_in_the_last_segment() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let journal = Journal::open(dir.path(), Options { segment_bytes: 1000, ..options() }).unwrap();
        for mark in 0..10 {
            journal.record_durable(outcome(round * 10 + mark)).await.unwrap();
        }
    }
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.segments, verified.records), (10, 30));
    assert_eq!(marks(dir.path()), (0..30).collect::<Vec<_>>());
    for number in 1..=10 {
        assert!(size(&dir.path().join(file_name(number))) <= 1000);
    }
}

#[tokio::test]
async fn only_the_owner_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state").join("journal");
    let journal = Journal::open(&dir, options()).unwrap();
    journal.record_durable(outcome(1)).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("lock")), 0o600);
    assert_eq!(mode(&dir.join(file_name(1))), 0o600);
}

#[test]
fn a_second_process_cannot_append() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path(), options()).unwrap();
    assert!(matches!(Journal::open(dir.path(), options()), Err(JournalError::Locked { .. })));
    first.close().unwrap();
    Journal::open(dir.path(), options()).unwrap();
}

/// A journal of `count` records in segments of about three records.
async fn journal_of(dir: &Path, count: u64) -> Options {
    let options = Options { segment_bytes: 1000, ..options() };
    let journal = Journal::open(dir, options.clone()).unwrap();
    for mark in 0..count {
        journal.record_durable(outcome(mark)).await.unwrap();
    }
    options
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn recovers_a_last_frame_that_was_cut_off_anywhere() {
    let whole = tempfile::tempdir().unwrap();
    let options = journal_of(whole.path(), 4).await;
    let last = read(whole.path()).last().unwrap().unwrap().position;
    let name = file_name(last.segment);
    let end = size(&whole.path().join(&name));
    for cut in last.offset..end {
        let dir = tempfile::tempdir().unwrap();
        copy(whole.path(), dir.path());
        let file = dir.path().join(&name);
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();
        let tail = (cut > last.offset).then(|| Tail {
            file: file.clone(),
            offset: last.offset,
            bytes: cut - last.offset,
        });
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.records, &verified.tail), (3, &tail), "cut at {cut}");

        let journal = Journal::open(dir.path(), options.clone()).unwrap();
        assert_eq!(journal.recovered(), tail.as_ref(), "cut at {cut}");
        journal.record_durable(outcome(99)).await.unwrap();
        assert_eq!(marks(dir.path()), [0, 1, 2, 99], "cut at {cut}");
        assert_eq!(verify(dir.path()).unwrap().tail, None);
    }
}

#[tokio::test]
async fn recovers_a_last_segment_that_was_cut_off_in_its_header() {
    let whole = tempfile::tempdir().unwrap();
    let options = journal_of(whole.path(), 4).await;
    let last = read(whole.path()).last().unwrap().unwrap().position;
    assert_eq!((last.segment, last.offset), (2, HEADER as u64), "segment 2 begins with record 4");
    let name = file_name(2);
    for cut in 0..=HEADER as u64 {
        let dir = tempfile::tempdir().unwrap();
        copy(whole.path(), dir.path());
        std::fs::OpenOptions::new().write(true).open(dir.path().join(&name)).unwrap().set_len(cut).unwrap();
        assert_eq!(verify(dir.path()).unwrap().records, 3);
        let journal = Journal::open(dir.path(), options.clone()).unwrap();
        assert_eq!(journal.recovered().is_some(), (1..HEADER as u64).contains(&cut), "cut at {cut}");
        journal.record_durable(outcome(99)).await.unwrap();
        assert_eq!(marks(dir.path()), [0, 1, 2, 99], "cut at {cut}");
    }
}

#[tokio::test]
async fn recovers_zeros_where_data_never_reached_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = journal_of(dir.path(), 1).await;
    let file = dir.path().join(file_name(1));
    let end = size(&file);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(end + 5000).unwrap();
    let journal = Journal::open(dir.path(), options).unwrap();
    assert_eq!(journal.recovered().map(|tail| (tail.offset, tail.bytes)), Some((end, 5000)));
    journal.record_durable(outcome(1)).await.unwrap();
    assert_eq!(marks(dir.path()), [0, 1]);
}

#[tokio::test]
async fn does_not_continue_a_damaged_segment() {
    let dir = tempfile::tempdir().unwrap();
    let options = journal_of(dir.path(), 2).await;
    let file = dir.path().join(file_name(1));
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 3] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    match Journal::open(dir.path(), options) {
        Err(JournalError::Broken(broken)) => {
            assert!(matches!(broken.what, Damage::Checksum));
            assert_eq!((broken.record, &broken.file), (2, &file));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing was cut off");
}

#[tokio::test]
async fn a_full_disk_refuses_and_resumes_when_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), options());
    journal.record_durable(outcome(0)).await.unwrap();
    let end = size(&dir.path().join(file_name(1)));
    for space in [0, 1, 43, 44, 100] {
        disk.plan().space = Some(space);
        let error = journal.record_durable(outcome(1000)).await.unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert_eq!(error.refusal().reason, durward_core::Reason::Internal);
        // Now that it is known to be full, an append that would not wait is refused too.
        disk.plan().space = Some(space);
        let error = journal.record(outcome(1001)).await.unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert_eq!(size(&dir.path().join(file_name(1))), end, "half a batch was taken back");
        assert_eq!(marks(dir.path()), [0]);
    }
    disk.plan().space = None;
    journal.record(outcome(1)).await.unwrap();
    journal.record_durable(outcome(2)).await.unwrap();
    journal.close().unwrap();
    assert_eq!(marks(dir.path()), [0, 1, 2]);
}

#[tokio::test]
async fn what_was_accepted_before_the_disk_was_full_is_written_after() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open(dir.path(), options()));
    disk.plan().hold = true;
    let first = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.record_durable(outcome(0)).await }
    });
    tokio::task::yield_now().await;
    disk.until_held().await;
    disk.plan().space = Some(700);
    // These lie in the queue while the disk fills up: two that nobody waits for, around one that somebody does.
    journal.record(outcome(1)).await.unwrap();
    let waiting = tokio::spawn({
        let journal = Arc::clone(&journal);
        async move { journal.record_durable(outcome(1000)).await }
    });
    tokio::task::yield_now().await;
    journal.record(outcome(2)).await.unwrap();
    disk.release();
    first.await.unwrap().unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(JournalError::Full { .. })));
    disk.plan().space = None;
    journal.record_durable(outcome(3)).await.unwrap();
    assert_eq!(marks(dir.path()), [0, 1, 2, 3]);
}

#[tokio::test]
async fn half_a_batch_that_cannot_be_taken_back_is_before_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), options());
    journal.record_durable(outcome(0)).await.unwrap();
    {
        let mut plan = disk.plan();
        plan.space = Some(100);
        plan.truncate_fails = Some(ErrorKind::StorageFull);
    }
    journal.record_durable(outcome(1)).await.unwrap_err();
    assert_eq!(verify(dir.path()).unwrap().tail.map(|tail| tail.bytes), Some(100));
    disk.plan().space = None;
    journal.record_durable(outcome(2)).await.unwrap_err();
    disk.plan().truncate_fails = None;
    journal.record_durable(outcome(3)).await.unwrap();
    assert_eq!(marks(dir.path()), [0, 3]);
}

#[tokio::test]
async fn a_disk_that_is_full_when_a_segment_begins_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), Options { segment_bytes: 500, ..options() });
    journal.record_durable(outcome(0)).await.unwrap();
    for space in [0, 10, HEADER] {
        disk.plan().space = Some(space);
        let error = journal.record_durable(outcome(1000)).await.unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
        assert_eq!(verify(dir.path()).unwrap().tail, None);
    }
    disk.plan().space = None;
    journal.record_durable(outcome(1)).await.unwrap();
    assert_eq!(marks(dir.path()), [0, 1]);
    assert_eq!(verify(dir.path()).unwrap().segments, 2);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = disk.open(dir.path(), options());
    journal.record_durable(outcome(0)).await.unwrap();
    disk.plan().sync_fails = Some(ErrorKind::Other);
    let error = journal.record_durable(outcome(1)).await.unwrap_err();
    assert!(matches!(error, JournalError::Failed { doing: "sync", .. }), "{error}");
    let before = disk.counts();
    disk.plan().sync_fails = None;
    for _ in 0..3 {
        assert!(matches!(journal.record_durable(outcome(2)).await, Err(JournalError::Failed { .. })));
        assert!(matches!(journal.record(outcome(3)).await, Err(JournalError::Failed { .. })));
        assert!(matches!(journal.flush().await, Err(JournalError::Failed { .. })));
    }
    assert_eq!(disk.counts(), before, "the file was not tried again");
    assert!(matches!(journal.close(), Err(JournalError::Failed { .. })));
    let journal = Journal::open(dir.path(), options()).unwrap();
    journal.record_durable(outcome(4)).await.unwrap();
    assert_eq!(marks(dir.path()), [0, 4], "what was refused is not there");
}

#[tokio::test]
async fn a_failed_write_ends_the_journal_for_all_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::default();
    let journal = Arc::new(disk.open(dir.path(), Options { queue_bytes: 1000, ..options() }));
    disk.plan().hold = true;
    disk.plan().append_fails = None;
    let tasks: Vec<_> = (0..20)
        .map(|mark| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.record_durable(outcome(mark)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    disk.until_held().await;
    disk.plan().append_fails = Some(ErrorKind::Other);
    disk.release();
    let mut written = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => assert!(matches!(error, JournalError::Failed { doing: "write to", .. }), "{error}"),
        }
    }
    assert!((1..20).contains(&written), "{written}");
    assert_eq!(marks(dir.path()).len(), written);
}
