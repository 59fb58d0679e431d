mod cases;
mod crash;
mod damage;
mod imitation;
mod random;
mod salvage;
mod snapshots;
