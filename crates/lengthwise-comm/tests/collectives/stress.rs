//! Many small calls, with ranks far ahead of each other.

use lengthwise_comm::{Communicator, Pending, ReduceOp};
use lengthwise_core::Rank;
use lengthwise_tensor::Backend;

use crate::fixture::{ranks, run, timed};

#[test]
fn thousands_of_small_calls_on_changing_groups() {
    const ROUNDS: usize = 1500;
    let (results, took) = timed(|| {
        run(8, |world| {
            let me = world.rank().0;
            let device = world.backend().clone();
            let one = device.from_slice(1, 1, &[me as f32]).unwrap();
            let mut total = 0.0;
            for round in 0..ROUNDS {
                let degree = [1, 2, 4, 8][round % 4];
                let first = me / degree * degree;
                let members: Vec<u32> = (first..first + degree).collect();
                let group = world.group(&ranks(&members))?;
                let prefetched = world.start_all_gather_v(one.clone())?;
                let received = group.all_to_all_v(vec![one.clone(); degree as usize])?;
                assert_eq!(device.to_vec(&received[0]), [first as f32]);
                let sum = group.all_reduce_values(&[f64::from(me)], ReduceOp::Sum)?;
                assert_eq!(sum, [f64::from(members.iter().sum::<u32>())]);
                if round % 3 == 0 {
                    let root = Rank(round as u32 % degree);
                    group.broadcast(root, (group.rank() == root).then(|| one.clone()))?;
                }
                total += device.sum_of_squares(&prefetched.wait()?);
            }
            Ok(total)
        })
    });
    assert_eq!(results.unwrap(), [140.0 * ROUNDS as f64; 8]);
    assert!(took.as_secs() < 10, "{took:?}");
}
