//! Tests of one budget.

use std::time::Duration;

use super::{
    reservation::{BudgetReservations, SOON},
    *,
};

/// A reservation in one budget.
fn reserve(
    budget: &Budget,
    tokens: u64,
    usd: Option<Usd>,
) -> Result<BudgetReservations, Box<BudgetRefusal>> {
    let mut budgets = Budgets::none();
    budgets.add(budget);
    budgets.reserve(tokens, usd)
}

fn tokens(tokens: u64) -> Amount {
    Amount {
        tokens,
        ..Amount::default()
    }
}

#[test]
fn a_budget_is_passed_by_one_estimate_at_most() {
    let budget = Budget::new(BudgetLimits::new().with_tokens(1000));
    let reserve = || reserve(&budget, 300, None);
    let granted: Vec<_> = (0..64).filter_map(|_| reserve().ok()).collect();
    assert_eq!(granted.len(), 4);
    assert_eq!(
        (budget.spent().refused, budget.remaining().tokens),
        (60, Some(0))
    );
    for reservation in granted {
        reservation.settle(tokens(200), Amount::default());
    }
    assert_eq!(budget.remaining().tokens, Some(200));
    let last = reserve().expect("200 are left");
    assert!(reserve().is_err());
    last.settle(Amount::default(), tokens(250));
    let spent = budget.spent();
    assert_eq!((spent.tokens, spent.estimated_tokens), (1050, 250));
    assert!(reserve().is_err());
}

#[test]
fn a_reservation_that_is_dropped_is_released() {
    let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(1.0)));
    drop(reserve(&budget, 1, Some(Usd::new(2.0))).expect("nothing is spent"));
    assert_eq!(budget.spent(), BudgetSpent::default());
}

#[test]
fn a_limit_of_money_refuses_an_unknown_price() {
    let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(1.0)));
    assert!(reserve(&budget, 1, None).expect_err("no price").unpriced);
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_leaves_the_window() {
    let minute = Duration::from_secs(60);
    let limits = BudgetLimits::new().with_tokens(100).with_window(minute);
    let budget = Budget::new(limits);
    let spend = |amount| {
        let granted = reserve(&budget, amount, None).expect("some is left");
        granted.settle(tokens(amount), Amount::default());
    };
    spend(60);
    tokio::time::advance(minute / 2).await;
    spend(60);
    let refused = reserve(&budget, 1, None).expect_err("all is spent");
    let wait = refused.retry_after.expect("it has a window");
    assert!(
        wait >= minute / 2 && wait <= minute / 2 + Duration::from_secs(2),
        "{wait:?}"
    );
    tokio::time::advance(wait).await;
    assert_eq!(budget.spent().tokens, 60);
    assert!(reserve(&budget, 1, None).is_ok());
}

#[test]
fn a_soft_share_says_when_to_wrap_up() {
    let limits = BudgetLimits::new().with_tokens(100).with_soft_share(0.8);
    let budget = Budget::new(limits);
    let spend = |amount| {
        let granted = reserve(&budget, amount, None).expect("some is left");
        granted.settle(tokens(amount), Amount::default());
    };
    spend(79);
    assert!(!budget.remaining().wrap_up);
    spend(1);
    assert!(budget.remaining().wrap_up);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_only_reserved_is_free_again_soon() {
    let limits = BudgetLimits::new().with_tokens(100);
    let daily = Budget::new(limits.clone().with_window(Duration::from_secs(86_400)));
    let _under_way = reserve(&daily, 200, None).expect("nothing is spent");
    let refused = reserve(&daily, 1, None).expect_err("all is reserved");
    assert_eq!(refused.retry_after, Some(SOON));
    let for_good = Budget::new(limits);
    let _under_way = reserve(&for_good, 200, None).expect("nothing is spent");
    let refused = reserve(&for_good, 1, None).expect_err("all is reserved");
    assert_eq!(refused.retry_after, None);
}

#[tokio::test(start_paused = true)]
async fn an_estimate_leaves_the_window_with_what_was_spent() {
    let minute = Duration::from_secs(60);
    let budget = Budget::new(BudgetLimits::new().with_tokens(100).with_window(minute));
    let granted = reserve(&budget, 10, None).expect("nothing is spent");
    granted.settle(tokens(5), tokens(7));
    let spent = budget.spent();
    assert_eq!((spent.tokens, spent.estimated_tokens), (12, 7));
    tokio::time::advance(2 * minute).await;
    assert_eq!(budget.spent(), BudgetSpent::default());
}

#[test]
fn the_longest_window_is_a_year() {
    let budget = Budget::new(
        BudgetLimits::new()
            .with_tokens(100)
            .with_window(Duration::MAX),
    );
    let granted = reserve(&budget, 10, None).expect("nothing is spent");
    granted.settle(tokens(5), Amount::default());
    assert_eq!(budget.spent().tokens, 5);
}
