mod cases;
mod crash;
mod damage;
mod random;
mod snapshots;
